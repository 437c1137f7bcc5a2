package origintest

import (
	"errors"
	"testing"

	"github.com/weir-registry/weir/origin"
)

// Test examines a registry. open gives one that holds nothing, takes pushes from
// whoever calls, allows deletions and has no immutable tags; it is called once for
// each test, and closes what it opened with t.Cleanup.
func Test(t *testing.T, open func(t testing.TB) origin.Registry) {
	t.Run("reader", func(t *testing.T) {
		Reader(t, "", func(t testing.TB, c Content) origin.Reader {
			reg := open(t)
			c.Push(t, reg)
			return reg
		})
	})
	for _, part := range []struct {
		name  string
		tests []test
	}{
		{"push", pushTests},
		{"upload", uploadTests},
		{"mount", mountTests},
		{"delete", deleteTests},
		{"list", listTests},
		{"race", raceTests},
	} {
		t.Run(part.name, func(t *testing.T) {
			for _, x := range part.tests {
				t.Run(x.name, func(t *testing.T) { x.run(t, open(t)) })
			}
		})
	}
}

type test struct {
	name string
	run  func(t *testing.T, reg origin.Registry)
}

// wantError fails the test unless err is the one wanted.
func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

// wantUnknown fails the test unless err says that something does not exist.
func wantUnknown(t testing.TB, what string, err error) {
	t.Helper()
	if !origin.Unknown(err) {
		t.Errorf("%s: error %v, want one that says unknown", what, err)
	}
}

func wantNil(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}
