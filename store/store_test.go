package store_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/weir-registry/weir/store"
)

func TestErrNotFoundIsNotExist(t *testing.T) {
	if !errors.Is(store.ErrNotFound, fs.ErrNotExist) {
		t.Error("ErrNotFound is not fs.ErrNotExist")
	}
}

func TestConditionAllows(t *testing.T) {
	for _, c := range []struct {
		name      string
		condition store.Condition
		absent    bool // over nothing
		same      bool // over version v
		other     bool // over another version
	}{
		{"zero", store.Condition{}, true, true, true},
		{"always", store.Always(), true, true, true},
		{"absent", store.Absent(), true, false, false},
		{"version", store.Version("v"), false, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.condition.Allows(false, ""); got != c.absent {
				t.Errorf("over nothing: %v, want %v", got, c.absent)
			}
			if got := c.condition.Allows(true, "v"); got != c.same {
				t.Errorf("over version v: %v, want %v", got, c.same)
			}
			if got := c.condition.Allows(true, "w"); got != c.other {
				t.Errorf("over version w: %v, want %v", got, c.other)
			}
		})
	}
}
