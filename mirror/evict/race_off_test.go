//go:build !race

package evict_test

const raceDetector = false
