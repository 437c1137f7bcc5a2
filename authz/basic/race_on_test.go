//go:build race

package basic

const raceDetector = true
