// Package s3 keeps blobs and records in a bucket of S3, or of a store that speaks its
// protocol, below a prefix that any number of processes may share:
//
//	PREFIX/blobs/<alg>/<hex>               names of blobs: which object has the bytes, and how many they are
//	PREFIX/data/<id>                       the bytes of blobs; each upload, and each try to commit a small one, has an object of its own
//	PREFIX/index/<alg>/<hex>/<size>-<id>   empty: the same as the names, so that a listing tells sizes
//	PREFIX/ingest/<id>                     how far an unfinished upload came, its hash, and what is in no part yet
//	PREFIX/records/<key>                   records: a line with a nonce and a checksum, then the data
//	PREFIX/probe/<id>                      what Open tries conditions on
//
// It refuses a bucket that does not keep conditions on writes (If-None-Match, If-Match),
// unless a [Locker] of all processes stands in for them; and to answer "absent" for
// anything but the bucket's own word for it, NoSuchKey.
//
// # Laws
//
//   - Nothing is copied. A blob's bytes are hashed while they are received, and sent in
//     parts to the object where they stay; what makes them a blob is the write of a small
//     object, which happens only where there is none.
//   - No object of bytes is written twice, so that deleting one never hits bytes that
//     came later, and a pointer that is remembered leads to its bytes or to nothing. All
//     that leads to an object is of one digest.
//   - A record, and a blob's name, changes by a write with a condition. An answer that was
//     lost is looked for by the nonce; what cannot be decided is an error, and no conflict.
//   - A deletion is decided by a tombstone, an empty object, which is such a write.
//   - Bytes are received into memory up to 64 KiB, then into a file without a name: memory
//     does not grow with what is uploaded.
//   - A request is repeated at most four times, after a random pause; one that is not
//     answered within 30 s has failed.
//   - What is read as a whole is verified by its digest before its last bytes are given;
//     a stretch has its length, of one object.
package s3
