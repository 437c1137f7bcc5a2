package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
)

// When weir ends, it is written down what was pulled last, also where a client has used up
// all the time of the drain.
func TestPullsOutliveACutDrain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	text := fmt.Sprintf("store: {blobs: {filesystem: {root: %q}}}\nmirror: {well_known: false}\n", t.TempDir())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() *app {
		t.Helper()
		c, err := config.Load([]string{file}, os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		logs := newLogs(io.Discard, c.Log)
		t.Cleanup(logs.release)
		a, err := compose(c, logs)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	repo, err := origin.ParseRepo("team/app")
	if err != nil {
		t.Fatal(err)
	}
	tag, err := origin.ParseRef("1")
	if err != nil {
		t.Fatal(err)
	}
	a := open()
	a.pulls.Pulled(repo, tag)
	over, cut := context.WithCancel(t.Context())
	cut()
	if err := a.close(over); err != nil {
		t.Errorf("close: %v", err)
	}
	a = open()
	defer func() { _ = a.close(context.Background()) }() // nothing runs
	if last, err := a.pulls.Last(t.Context(), repo); err != nil || last["1"].IsZero() {
		t.Errorf("pulled last: %v, %v", last, err)
	}
}
