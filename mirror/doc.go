// Package mirror is a registry that reads through: an origin.Registry made of
// upstreams, which own images, and of an origin, which keeps what was fetched and
// takes what is pushed.
//
// A [Table] says which upstream a name belongs to. Blobs come through running
// fills (package fill) into the origin. What a mirror must remember besides, which
// digest a tag had and when that was checked, and the manifests, is its own state:
// records beside the origin, so that any registry can be the origin.
//
// It refuses to push to an upstream, to ask one for what nobody asked for, and to
// tell a client that something does not exist when it merely could not ask.
//
// # Laws
//
//   - What is named by a digest is asked for once, and never again while it is kept.
//   - A tag is asked for at most once per TTL however many want it, and never again
//     if it is immutable.
//   - Bytes are shared between repositories, rights are not: a repository has a blob
//     once its own upstream has said so.
//   - An upstream that is down, slow or limiting turns nothing that is kept into an
//     error: it is served stale, and says so.
//   - What is served counts as used, and what is read stays until it was read.
//   - Clients never see an upstream's 401, 403 or 429.
package mirror
