// Package fill fetches a blob from an upstream once and gives it to any number of
// readers while it comes in.
//
// A [Fill] has one writing side, which fetches ranges of the blob into a [Spool]
// and hashes them in order, and any number of followers, each of which reads the
// spool at its own pace from its own offset. Whoever asks for a blob that is being
// fetched joins the running fill of a [Group].
//
// The package refuses to know where bytes come from ([Source]), where they go
// ([Keep]) and who may read them.
//
// # Laws
//
//  1. One writer: per key one fill at a time, and no byte of it is fetched twice.
//  2. Followers read the spool, not the writer. A slow one slows no one, a late
//     one starts at byte 0 at once, one that wants a range waits only for it; a
//     range far ahead is fetched beside what is coming.
//  3. A fill belongs to its group, not to the client that began it: it goes on
//     when that one leaves.
//  4. The last bytes are the verdict: they are withheld until size and digest are
//     good. What is wrong is cut, never completed.
//  5. Failure is state: every follower sees the same error.
//  6. A broken upstream is resumed, not restarted: at the offset reached. So is a
//     fill that an earlier process left: what its spool holds is checked, and only
//     the rest is fetched.
//  7. Long blobs come in parallel ranges wherever the upstream gives ranges, and
//     are hashed in order as the prefix grows.
//  8. Several replicas over one store hold a lease per fill ([Replicas]); the others read
//     the leader's running fill, and fetch for themselves after 2 s without a byte. A lease
//     that is lost, or that two hold, costs a second download and never a wrong byte: each
//     verifies what it gives, and what is stored by another meanwhile stays.
//  9. A fill that cannot be stored, or that the [Budget] has no room for, still serves: each follower reads the spool to
//     where it ends, and goes on with a stream of its own and a copy of the hash.
//
// A fill that nobody has asked for yet ([Group].Ahead) is never in the way of one that
// somebody waits for.
package fill
