//go:build !race

package basic

const raceDetector = false
