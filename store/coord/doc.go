// Package coord is how several processes over one store stay out of each other's way:
// a [Locker], a [Cache] of small values, and [Notify], by which one tells the others
// which records it has written.
//
// [Process] is all three inside one process: what a single node has, and what tests of
// several registries share. [Redis] is all three between processes. Both pass the exam
// in store/coord/coordtest.
//
// # Laws
//
//   - A lock saves work, and nothing else. Whoever holds one may have lost it without
//     knowing yet ([Lock.Lost]); what must hold is decided by conditions in the store.
//     Where a bucket has none, locks stand in for them, fenced as far as its DECISIONS say
//     (store, 28), and a write may be lost with one.
//   - A value that is not as it was set is a miss, and so is one of another store, of
//     another version of weir, or past its time.
//   - Who is told nothing knows that: what is written elsewhere has been told within
//     a second of being announced, or the subscription says that it is not current. What
//     may have been missed is told as "anything may have changed".
//   - An announcement does not depend on Redis: what it does not take is announced by a
//     record in the store, which everybody reads every 300 ms. The record names the one
//     server that is relied on: who reaches another one is told nothing, and knows that.
//   - While Redis is away nothing waits for it: a call takes [Patience] at most, and after
//     one that failed the next ones fail at once for a while.
package coord
