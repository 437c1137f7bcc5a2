// Package guard stands before a registry and asks, for whatever is to be done with
// it, whether whoever asks may.
//
// A [Guard] is an origin.Registry around another: what it does not know it refuses, so
// that a method which is added to a registry later is closed until somebody decides
// on it here. Who asks it reads from the request ([origin.Request]), where [Identify]
// puts it.
//
// # Laws
//
//   - Names are decided on before it is looked whether they exist: what may not be
//     read is answered in the same way whether it is there or not.
//   - Nobody, and no upstream, is asked for content before the decision.
//   - Who is nobody is asked who they are (401); who is somebody is refused (403).
//   - A list shows what may be pulled, and nothing of the rest: not its number, and
//     not where a page ended in it.
//   - A mount from where one may not read is no error: it is as if nothing were there.
package guard
