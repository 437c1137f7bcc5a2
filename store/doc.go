// Package store is the vocabulary of what weir keeps: large immutable blobs
// named by their digest, and small mutable records named by a path.
//
// It knows bytes. It knows nothing of HTTP, of repositories or of manifests:
// those meanings are given to it by package origin. A backend implements
// [Blobs] and [Records] and passes the exam in store/storetest; nothing else
// distinguishes a disk from a bucket or from memory.
//
// # Laws
//
//   - A blob is there whole or not at all: [Ingest.Commit] is the only moment at
//     which it becomes visible, and when Commit returns the bytes are on stable
//     storage.
//   - A digest is verified while the bytes are received. What does not match is
//     never visible under that digest.
//   - A record changes only as its [Condition] allows, and a version is never
//     used twice, so a compare-and-swap cannot be fooled by a value that went
//     away and came back.
//   - An error that is not [ErrNotFound] says nothing about whether something
//     exists: a store that is away never answers "absent".
package store
