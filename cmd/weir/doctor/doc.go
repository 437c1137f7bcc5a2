// Package doctor replays what clients send when they pull an image, and says what of
// a server's answers would break them.
//
// The server is any mirror or registry. [Examine] asks it as containerd, Docker with
// each of its two image stores, and podman would, one after the other, and gives a
// [Report]: for each client what was asked, what came back, what the client makes of
// it, and how to mend it.
//
// # Laws
//
//   - It reads. Nothing is pushed, deleted or changed.
//   - A login is shown to the server and its own token server only, and not at all
//     where the client would show none: Docker sends a mirror no credentials.
//   - "Would break" is said where a pull fails, or goes on without this server; what
//     costs a request more, or breaks one day, is a note.
//   - What a server sends is quoted, and short: it is printed on terminals.
package doctor
