// Package events tells others over HTTP what happens in a registry, as CloudEvents 1.0:
// pushes, deletions and pulls of manifests, and blobs that a mirror has fetched.
//
// A push or a deletion is written down with the change itself ([Outbox] is an
// [origin.Journal]), once for each receiver that wants it, and stays until that receiver
// has taken it, whatever becomes of this process meanwhile. Pulls and fills are told as
// they happen, and lost where there is no room for them, or nobody takes them.
//
// # Laws
//
//   - What was acknowledged is told at least once, with the same id when it is repeated.
//   - A receiver is told what happened to one repository in the order in which it
//     happened: what it does not take holds up what follows in that repository, and
//     nothing else.
//   - A receiver that is down, slow or broken costs those who push and pull nothing.
//   - What a receiver has not taken for a day is kept apart, for an operator to see.
//
// # Records
//
//	events/queue/<receiver>/<id>    waits to be told
//	events/dead/<receiver>/<id>     was not taken for a day
//
// An id begins with the time, so that a listing has the order of what happened, and ends
// with a hash of the repository: it says what must wait for what without being read.
package events
