// Package remote is a registry that somebody else serves over HTTP: one endpoint
// of an upstream, read through [origin.Reader] ([Registry]), or a registry that takes
// writes too and is used as an origin ([Origin]).
//
// It authenticates (basic, and the bearer tokens of distribution's token
// specification), follows redirects to where blobs are kept, and gives what comes
// a meaning: every failure is an [origin.UpstreamError], or the error of the
// caller's own context. It keeps no content and retries nothing but a request
// whose token had lapsed, or whose way was one that it had kept; what to do about
// an endpoint that fails is for others.
//
// A blob may be asked for in ranges, many at a time: each has a connection of its
// own, with HTTP/1.1, and after the first one they go straight to where that was
// redirected, as long as that answers.
//
// # Laws
//
//   - Credentials go to the endpoint's own scheme, host and port, to the token server
//     there, and to token servers on the hosts that the operator names (for
//     registry-1.docker.io: auth.docker.io too), and nowhere else: no redirect carries
//     any, not even one to another port or back to the endpoint.
//   - Where the upstream leads (a realm, a redirect, an upload's Location, a page's Link) is its word and
//     not the operator's: never from https to http, never to an internal address
//     unless the endpoint has one itself, checked on the address that is dialled.
//   - An address that a blob was redirected to is good for that blob in that
//     repository, for a minute, and is looked at again whenever it is dialled.
//   - Whatever is read is bounded in size, except a blob, and each wait in time:
//     to connect, to the first byte, for the next byte. There is never a total.
//   - A manifest leaves here verified. A blob does not: its reader verifies, but it
//     is told if the body ended early.
//   - Nothing that is printed, logged or wrapped holds a credential, or a URL's
//     query, where signatures are.
package remote
