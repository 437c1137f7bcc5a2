// Package lifetime decides how long content stays, and has what is needed by nobody
// taken away. It works on a registry that can be gone through ([origin.Inventory]) and
// on the clock of its store.
//
// It refuses to know HTTP, where records are and how anything is deleted safely: that
// is the business of whoever implements [origin.Sweeper]. It decides on nothing that
// only a mirror keeps, which package evict does.
//
// # Laws
//
//   - What cannot be read is not absent. A repository of which anything is damaged,
//     missing from a listing or not to be read keeps all that it has, and the run fails.
//   - Time is the store's. A run whose own clock disagrees with it by more than a quarter
//     of the grace does nothing.
//   - A dry run is the same run, with nobody to delete.
//   - A run holds up nobody: it takes no lock while it lists, and what somebody is using
//     it leaves to the next one.
//   - It takes some 100 MiB over a million blobs, whatever repositories they are in.
package lifetime
