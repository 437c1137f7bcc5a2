// Package local is the registry over a store: an [origin.Registry] made of a
// [store.Blobs] for what blobs hold and a [store.Records] for everything else.
//
// It gives bytes their OCI meaning (manifests, tags, referrers, links of blobs
// into repositories, uploads, immutable tags) and refuses what is not its own:
// it knows no HTTP, asks nobody whether a caller may, and decides on no lifetime: it
// keeps leases, and removes what it is told to, safely. Those belong to origin/serve,
// authz/guard, origin/lifetime and a mirror's eviction. The record layout is in layout.go,
// nowhere else.
//
// # Laws
//
//   - A push becomes visible by its tags, last: the manifest's record appears
//     before its entry among the referrers, and that before the tags, also where
//     they are written at once. A deletion goes the other way round.
//   - What was answered with success is durable: every record is written before
//     the answer, and nothing that matters is kept in memory alone.
//   - Memory never says more than the store. A cache is filled and emptied under
//     the lock that guards the record's writes, and after a write whose outcome
//     is uncertain it forgets. What other processes write it follows ([Others]), and
//     while nobody can tell what they do it is not believed; nothing is acknowledged
//     on the strength of it where others write.
//   - An immutable tag has one winner, by compare-and-swap in the store and not by
//     a lock: several processes over one store agree on it.
//   - What a client pushed is not evicted, nor what its manifests name; a link is made
//     to bytes that are there, and they stay until it is.
//   - Whoever is told that a blob is there, or that he has pushed one, may rely on it for
//     the grace, whatever other processes do and whatever their clocks say.
//   - Cost does not grow with what a repository holds: a record each, no file that
//     lists them; what must be sorted is sorted in memory once and kept by the
//     writes.
package local
