// Package oidc finds who asks by a token of an OpenID Connect provider: an ID token,
// or an access token that is a JWT (RFC 9068).
//
// An [Authenticator] has any number of providers. It takes a token as Bearer, and as
// the password of Basic whatever the user name, since that is all that docker login
// and most CI systems can send. It asks no provider about a token: it verifies the
// signature with the provider's keys, which it fetches.
//
// # Laws
//
//   - The provider is the one whose issuer the token names, letter by letter, or there
//     is none. No other provider's keys, audience or rules are looked at, and an
//     identity is told apart by provider and subject.
//   - What is not signed by a key that the provider publishes now, with an algorithm
//     that is listed, is nobody's. Keys that come along in a token are not looked at.
//   - What a token says is read once, strictly: a name that is there twice, or in
//     another spelling, means nothing else to another reader.
//   - However many tokens come, of whatever keys: a provider is asked for its keys by
//     one request at a time, once a minute at most, or once a second while it fails.
//   - Who a token is for holds as long as the token does: until it expires. Groups are
//     those of this token, and nothing is remembered of another one.
//   - No error and no log line holds a token.
//
// # What ends a token
//
// Its expiry, as the clock says, and the leeway. A provider cannot take one back
// before; it can withdraw the key that signed it, which counts at the latest ten
// minutes later: keys are fetched again at that age when a token comes. Only while they
// cannot be fetched the ones that are there go on, for a day.
package oidc
