// Package egress is the one way out: a client for one URL that an operator has
// configured (a registry, an issuer, a webhook), and for wherever the server there
// leads.
//
// It sends requests, with bodies or without, follows redirects, and knows for each
// host whether it may be connected to and whether it may hear a credential. What an
// answer means is for others.
//
// # Laws
//
//   - Credentials go to the configured scheme, host and port, and to the hosts that
//     the operator names beside it (https only, unless the configured URL is http
//     itself), and nowhere else: no redirect carries any, not even one to another
//     port or back to where it came from. A certificate is shown to the configured
//     host alone.
//   - Where a server leads (a realm, a redirect, a Location, a Link) is its word and
//     not the operator's: never from https to http, never to a URL with credentials in
//     it, never to an internal address unless the configured host has one itself,
//     never to link-local addresses and those of a cloud's metadata. It is the address
//     that is dialled which is checked, whatever name it has. To the last ones not even
//     the configured name leads; a configured address may be one.
//   - A redirect is followed at most ten times; that of a request which changes
//     something, or has a body, only if it asks for the very same again (307, 308) and
//     the body is there again.
//   - Each wait has a limit: to connect, to send and to get the next bytes of a body,
//     for the first byte of an answer. There is never a total.
//   - Nothing that is printed, logged or wrapped holds a credential, or a URL's
//     query, where signatures are.
package egress
