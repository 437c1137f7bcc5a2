package s3_test

import (
	"os"
	"testing"
)

// TestMain leaves out authorities that the environment names: reading them for each of
// hundreds of clients takes longer than all that these tests are about.
func TestMain(m *testing.M) {
	os.Unsetenv("AWS_CA_BUNDLE")
	os.Exit(m.Run())
}
