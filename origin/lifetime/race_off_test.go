//go:build !race

package lifetime_test

const raceDetector = false
