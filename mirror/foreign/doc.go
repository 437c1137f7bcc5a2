// Package foreign makes somebody else's registry fit to be the origin of a mirror: an
// origin.Registry around one that is reached over a network, may be away, and keeps
// to the specification alone.
//
// What a mirror asks of its origin all the time, whether it has a blob, whether it
// has a repository, is remembered for a short while. A mirrored manifest is handed
// over when what it names is there, since a registry takes no other; until then it is
// kept in records, and found there again after a restart.
//
// It refuses to remember what people pushed: of a repository that is not mirrored the
// registry is asked each time, and what it says is told.
//
// # Laws
//
//   - An origin that is away, hangs or refuses fails no pull of mirrored content: what
//     it cannot say is not there, and the mirror knows where to have it.
//   - It is asked about mirrored content once more after a pause, by one request.
//   - A blob that is stored costs one request, one that is not costs one to know it.
//   - No whole blob completes with other bytes than its digest says. (A range is given
//     as it comes; who asked for it checks the whole.)
//   - A mirrored manifest is never there before its blobs and its children.
package foreign
