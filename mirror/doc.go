// Package mirror is a registry that reads through: an origin.Registry made of
// upstreams, which own images, and of an origin, which keeps what was fetched and
// takes what is pushed.
//
// A [Table] says which upstream a name belongs to; its endpoints are one reader
// (package fanout). Blobs come through running fills (package fill) into the origin.
// What a mirror must remember besides, which digest a tag had and when that was
// checked, and the manifests, is its own state: records beside the origin, so that
// any registry can be the origin.
//
// It refuses to push to an upstream, to ask one for what neither a client nor the
// operator asked for, and to tell a client that something does not exist when it merely could not ask.
//
// # Laws
//
//   - What is named by a digest is asked for once, and never again while it is kept.
//   - A tag is asked for at most once per TTL however many want it, and however many
//     mirrors share the same state ([Shared]), and never again if it is immutable.
//   - Bytes are shared between repositories, rights are not: a repository has a blob
//     once its own upstream has said so. No route, and no mount, tells whether another
//     one has it.
//   - An upstream that is down, slow or limiting turns nothing that is kept whole
//     into an error: it is served stale, and says so.
//   - While an upstream cannot give content, no manifest is promised whose blobs are
//     not here: clients that have one look nowhere else.
//   - What is served counts as used, and what is read stays until it was read.
//   - Clients never see an upstream's 401, 403 or 429, nor, unless they may be about to
//     push it, that something is not there which an upstream could not say.
//   - A tag that was pushed to a mirrored repository, where that is allowed
//     ([Upstream].Writable), stands before the upstream's, and nobody is asked about it.
//   - A repository that [Upstream].Allow leaves out does not exist, whatever is kept of it.
//   - What is fetched before anybody asks ([Upstream].Prefetch) delays nobody who does.
package mirror
