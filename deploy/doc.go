// Package deploy is how weir comes to where it is used: a unit for systemd, a Debian
// package, a file for Docker Compose, whole configurations to begin with, alerts and a
// dashboard, and the guides to all of these.
//
// There is no code in it. Its tests (build tag deploy) start each of these as people do,
// and run what the guides tell them to type.
package deploy
