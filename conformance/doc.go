// Package conformance holds the proofs that need more than one room: the import
// policy, the official OCI suite, and real clients against the real binary.
package conformance
