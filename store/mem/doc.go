// Package mem keeps blobs and records in memory: a store for tests, and the
// plainest reading of what package store asks of a backend.
//
// It refuses to be anything more: nothing is bounded, nothing survives the
// process, and durability means that a map was written. It starts no goroutine
// and asks only the time package for the time, so that it works inside a
// testing/synctest bubble.
package mem
