// Package remotetest is an upstream for tests: a registry on a loopback port that
// has what it was given, writes down every request, and misbehaves on demand.
//
//	u := remotetest.New(t)
//	u.Bearer(remotetest.Bearer{})         // tokens, on another port
//	u.CDN()                               // blobs are redirected, to a third one
//	img := u.AddImage("library/nginx", "1", layer)
//	u.Fault("GET", remotetest.Latency(20*time.Millisecond))
//	u.Fault("GET cdn:/", remotetest.Rate(1<<20))
//	u.Fault("GET cdn:/", remotetest.Cut(100))
//	…
//	u.Requests()          // "GET /v2/ 401", "GET token:/token?scope=… 200", …
//	u.Sent("cdn:/")       // bytes of bodies
//	u.Connections("cdn:") // how many they came over
//
// Ways in which all of it goes, for good, are in [Outages].
//
// Faults compose: the last one that was armed stands in front, and changes what
// those behind it answer.
//
// # Laws
//
//   - The log is in the order in which requests came, whatever their answers took.
//   - It reads no configuration and asks nobody: what it serves was put there by the
//     test, or follows from it.
//   - It pulls and lists; nothing can be pushed to it.
package remotetest
