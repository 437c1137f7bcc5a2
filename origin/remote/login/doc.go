// Package login is what it takes to be known to a registry, and where that is had:
// from the configuration, or from a service of the cloud that the registry is in,
// for some hours at a time.
//
// # Laws
//
//   - A login is fetched once, however many need it, and not before it is needed.
//   - It is fetched again some time before it lapses, and when the registry refuses
//     it; never more than once a second, and less often the more often the new one
//     is refused as well.
//   - While the service that gives it is away, one that has not lapsed goes on. That
//     there is none then is an outage, and nobody's denial.
//   - It does not show itself, however it is printed.
package login
