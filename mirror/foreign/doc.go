// Package foreign makes somebody else's registry fit to be the origin of a mirror: an
// origin.Registry around one that is reached over a network, may be away, and keeps
// to the specification alone.
//
// Of what the mirror put there it keeps a link, a record: only what has one is read
// there. A mirrored manifest is handed over when what it names is there, since a
// registry takes no other; until then it is kept in records too, and found again after
// a restart. Whether a repository exists is remembered for a short while.
//
// It refuses to remember what people pushed: of a repository that is not mirrored the
// registry is asked each time, and what it says is told.
//
// # Laws
//
//   - An origin that is away, hangs or refuses fails no pull of mirrored content: what
//     it cannot give is not there, and the mirror knows where to have it.
//   - One that could not say is asked again after a pause, by one request.
//   - A mirrored blob that is stored costs one request, one that is not costs none.
//   - A mirrored blob is read only in a repository that it was put there for, also where
//     the registry would give it in any.
//   - No whole blob completes with other bytes than its digest says. (A range is given
//     as it comes; who asked for it checks the whole.)
//   - A mirrored manifest is never there before its blobs and its children.
package foreign
