// Package disk keeps blobs and records in one directory of a local file system:
//
//	ROOT/.id                         the store's name, for good
//	ROOT/.lock                       held by the one process that uses ROOT
//	ROOT/.sock                       where that process is spoken to, if it listens
//	ROOT/blobs/<alg>/<hex>           blobs; a file bears its digest's hex
//	ROOT/ingest/<id>.<alg>           what was received of a blob
//	ROOT/ingest/<id>.state           the hash of it, saved by Close
//	ROOT/log/<number>                what became of records, until their files are durable
//	ROOT/quarantine/<alg>-<hex>      blobs that turned out wrong, for an operator to look at
//	ROOT/records/<key>               records: a line of the version and a checksum, then the data
//	ROOT/tmp/                        files on their way; emptied by Open
//
// Other directories of ROOT are not touched; a mirror's spool belongs there, so
// that [Blobs.Adopt] can link its files.
//
// It refuses a root that another process holds ([ErrLocked]), and to answer
// "absent" once its directory has gone.
//
// # Laws
//
//   - Nothing is acknowledged before it is on stable storage. A blob's data is synced,
//     then renamed or linked to its name, then the directory is synced, and every
//     directory newly made before that, up to ROOT. A record is written to the end of a
//     log, and that is synced, once for all who write at that time. Records of a batch
//     stand there one behind the other, and are seen in that order.
//   - What is seen of a record is durable: its file gets its name, or goes, when the log
//     is synced. The files themselves are not, until their log is removed.
//   - A log is removed only when all that it holds is durable in the records' files, and
//     older ones before newer ones. Open does anew what the logs say that it finds; after
//     Close there is none, and the records' files are all there is.
//   - A failed sync is never repeated: what was being written is given up.
//   - An error leaves the state as it was: what a failed sync of a directory leaves
//     in doubt is taken back, and the log is told of a change that it has and that could
//     not be made. A blob that was to be quarantined stays where it got to.
//   - A blob is committed by a rename or a link, never by a copy.
//   - All names are resolved inside an [os.Root]; a link that leads out of it is
//     an error, and nothing is ever written through a second name of a file.
//   - Every write goes through [FS], so that a test can let any of them fail.
package disk
