// Package mtls is TLS towards clients: the certificate by which they know weir, and
// those by which weir knows them.
//
// [Server] is made of PEM files, which are read again when they change. It is both the
// configuration of the listeners and the [authz.Authenticator] of those who showed a
// certificate there, so that what is believed in a handshake and what is believed of
// a request are one.
//
// # Laws
//
//   - Clients are believed by the authorities of client_ca and by no others: neither
//     the system's nor those of an upstream.
//   - A certificate of another authority ends the handshake. One whose authority is no
//     longer there, or that has lapsed, is refused at the next request, also on a
//     connection that is older, and no session begun under other authorities is resumed.
//   - A connection outlives every change of the files.
//   - Two certificates with different issuers or subjects never have one ID.
package mtls
