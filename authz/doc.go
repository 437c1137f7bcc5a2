// Package authz decides who may do what.
//
// Who asks is an [Identity], found by an [Authenticator]; what is asked for is an
// [Access], and an [Authorizer] decides on it. Package guard stands between the two
// and a registry, so that no route can forget to ask.
//
// It knows requests and nothing of registries. It refuses to guess: credentials that
// nobody accepts are not anonymous, and what cannot be decided is denied.
//
// # Laws
//
//   - A decision reads an Identity and an Access and nothing else, so that it can be
//     asked again, tested, and kept under the two as its key.
//   - What fails denies. A denial is an answer; a failure is told apart from it, and
//     is never kept.
//   - An Identity holds no credential. It may be logged by its ID.
package authz
