// Package storetest is the exam that every backend of package store passes.
//
// [Blobs] and [Records] examine one behaviour per case, each on a new, empty
// store. A backend's test is then as short as this:
//
//	func TestBlobs(t *testing.T) {
//		storetest.Blobs(t, func(t *testing.T) store.Blobs { return mem.NewBlobs() })
//	}
//
// What a backend offers beyond the interfaces is looked for and examined where
// it is there: [store.Adopter], and, of a store that says by [Spooler] where such
// files must lie, that adoption works. Of records that say by [Filer] where they lie,
// what comes of damage is.
//
// The exam asks for nothing that a bucket could not give: no order of All, no
// time that a change takes to show, no limit on sizes. A fault found in one
// backend becomes a case here, so that it is a fault of none.
package storetest
