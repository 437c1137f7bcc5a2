// Package evict keeps what a mirror has stored within a budget of bytes, and what each of
// its repositories links within a quota: it counts the blobs, remembers when each was used
// last, and says which leave when there must be room. What leaves is least recently used, by
// whole images. How it is taken out is the origin's to know: see origin.Keeper.
//
// It refuses to know rights and who has a quota, and to read what it counts.
//
// # Laws
//
//   - What was pushed never leaves, nor what somebody reads.
//   - A fill asks for room before its first byte, or, where nobody says how large the blob
//     is, before it is stored. Stored content exceeds the budget by no more than what
//     running fills have asked for, and what they displace is removed meanwhile. Where
//     there can be no room, nothing is displaced, and the fill serves without storing.
//   - A blob belongs to the image that named it last, and has its recency: that of the
//     image's manifest and of all its blobs together. So a layer that an image in use
//     has, too, stays; and the rest of an image that leaves, leaves.
//   - A repository's quota is a budget of its own, in the order of use there. A blob counts in
//     each repository that links it, and leaves the one whose quota is exceeded; its bytes go
//     with the last.
//   - What there is is learnt from the origin at each start, in the background; what was
//     remembered of its use is only that. Until then nothing leaves, and nothing is stored
//     that depends on it.
//   - Of several caches over one origin ([Shared]) one evicts, and only while it is certain
//     what there is; where none can, what there is no room for is not stored.
//   - Use counts in memory at once. It is written down each hour, and at the end.
package evict
