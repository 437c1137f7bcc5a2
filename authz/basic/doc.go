// Package basic knows people by a name and a password: those of an htpasswd file, and
// those of the configuration.
//
// Passwords are kept as Argon2id or bcrypt. It refuses every other kind, and a file with
// a line that it does not understand as a whole: a line that is passed over is a user
// who is locked out, or one who is believed to be.
//
// # Laws
//
//   - Who is not known costs the same work as who is, with a password that is wrong.
//   - The work is bounded: as many hashes at a time as there are cores, [queue] that
//     wait, and an authz.ErrUnavailable for the rest.
//   - Nobody is locked out. Who was wrong often stands behind those who were not, and
//     gets half of the cores; a password that was right before goes before all.
//   - A password is in memory while a request with it lasts. What is remembered is an
//     HMAC under a key of this process.
//   - What was decided under one state of the users does not outlive it.
package basic
