// Package watch reads small files that others change: certificates, lists of users.
//
// A [Files] is a value that was made of files. Whoever asks for it has it looked, once
// a second at most, whether they changed; there is no goroutine, and nothing to close.
//
// # Laws
//
//   - A value is made of all its files or not at all: while changed ones do not go
//     together, the last good value goes on, and why is told once.
//   - A file that is being written, and one that is away, is about to be replaced:
//     neither is read.
package watch
