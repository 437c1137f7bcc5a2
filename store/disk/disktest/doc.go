// Package disktest has the file systems that store/disk is tried on, and whatever is
// built on it: one that fails, one whose power is cut, and the reading of what a
// process asked of a real one.
//
//	f := new(disktest.Faulty)
//	s, _ := disk.Open(dir, disk.Options{FS: f.FS})
//	f.Arm(disktest.Nth(7, syscall.ENOSPC)) // the eighth call from here on fails
//	…
//	f.Disarm() // what was called: "create tmp/…", "write tmp/…", …
//
//	c, _ := disktest.NewCrash(dir)
//	s, _ := disk.Open(dir, disk.Options{FS: c.FS, Boot: "one"})
//	c.Hook(func() { image = c.Cut(rnd) }) // before each call
//	…
//	image.Write(clone) // a directory as it may be after the power was cut there
//	s, _ = disk.Open(clone, disk.Options{Boot: "two"})
//
// # What a power cut leaves
//
// [Crash] promises what ext4, xfs and btrfs do with their default options, and POSIX
// does where it says anything; of what these add to that it makes no use.
//
//   - The bytes of a file are durable once the file is synced after they were written.
//   - A name, or that a name is gone, is durable once its directory is synced after
//     that; a directory is found only if its own name is durable, and so on upwards.
//   - Of the rest each part survives or not, whatever comes before or behind it: there
//     is no order, neither among names nor between names and bytes.
//   - A rename replaces its target in one step: there is the old file or the new one
//     by that name, never none and never a half. The old name goes no sooner than the
//     new one is there, so that no rename loses a file; but the two names need not
//     change together, and after a cut a file may have both.
//   - Bytes that were not synced are there, or are zeros, block by block; or the file
//     ends before them. Bytes that were, and were not cut off since, are there.
//   - A file's times are not kept.
//
// What is in the directory before the Crash is made counts as durable.
//
// # Laws
//
//   - The store's calls happen in a real directory, one at a time: reading needs no
//     file system of its own.
//   - Nothing is random but by the source that the caller gives.
package disktest
