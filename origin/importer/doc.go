// Package importer takes images over from where they lie as files, and gives them out as
// files: the storage of CNCF Distribution ([Distribution], read only), and OCI image
// layouts ([Layout], [Export]).
//
// It reads and writes registries through their interfaces, and files through [fs.FS], so
// that the storage of a Distribution may lie on a disk or in a bucket.
//
// It refuses what a push would be refused for, and what a repository of the source does
// not link: bytes that two repositories share are not a right to read them.
//
// # Laws
//
//   - Nothing is believed by its name: every blob and manifest is hashed while it is read,
//     and what has another digest is named and not taken.
//   - One thing that is wrong keeps nothing else from being taken; nothing that names it is.
//   - What a manifest names is there before it, and all manifests are before the first tag.
//   - The source is never changed, and what is there already is not written again.
//   - An image is in an exported layout whole, with all that refers to it, or not at all.
package importer
