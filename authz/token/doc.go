// Package token makes weir's own bearer tokens, reads them again, and answers at /token,
// where Docker's clients fetch them (distribution's token specification).
//
// A token says who somebody is, so that a password is shown once in a while and not with
// each request, and what it is for. It is not a right: whoever uses it is decided on
// again, with the identity that it was issued to.
//
// # Laws
//
//   - A token's header is compared with the only one that is ever written, byte for byte,
//     before anything of it is parsed: what another header says of keys, algorithms and
//     extensions is not read, so that it cannot be believed.
//   - One kind of token is never taken for another: the header names the kind.
//   - A token buys no other token. What /token gives, it gives for credentials.
//   - A token grants what was asked for, as far as policy grants it then, and less is no
//     error. No scope is nothing, and never everything.
//   - A refresh token is given where it can be found out later that its owner is still
//     there, with the password that was shown for it; and it is found out at each use.
package token
