//go:build race

package policy

// raceEnabled says that what is measured is the race detector.
const raceEnabled = true
