// Package origin says what a registry is: [Registry], the values it speaks of
// ([Repo], [Ref], [Descriptor], [Manifest]) and the errors it answers with
// ([Error]).
//
// Whatever implements Registry can be served over HTTP (origin/serve), wrapped
// (origin/observe, authz/guard), mirrored (mirror) or examined
// (origin/origintest), and none of these can tell which one it has: a registry
// over a store (origin/local), one that is reached over HTTP (origin/remote), or
// one that reads through to others (mirror).
//
// # Laws
//
//   - A Repo, a Ref and a digest exist only if they are valid: they are made by
//     [ParseRepo], [ParseRef] and [ParseDigest] and by nothing else, so that
//     routing, policy and storage consume one and the same parsed value.
//   - A manifest's bytes are never rewritten. What was pushed, media type
//     included, is what is served.
//   - A blob is readable in a repository only if that repository links it.
//   - An error is an [Error] or wraps one if a client is meant to understand it;
//     everything else is answered as an internal error and its text is kept from
//     the client.
package origin
