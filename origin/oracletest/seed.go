package oracletest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// seedVariable holds the seed of a story that is to be told again.
const seedVariable = "WEIR_TEST_SEED"

// Seed gives the seed of a test, another one each time, and logs it: with it in
// $WEIR_TEST_SEED the test draws the same again.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(rand.Uint32())
	if given := os.Getenv(seedVariable); given != "" {
		n, err := strconv.ParseUint(given, 10, 64)
		if err != nil {
			t.Fatalf("$%s: %v", seedVariable, err)
		}
		seed = n
	}
	t.Logf("%s=%d", seedVariable, seed)
	return seed
}
