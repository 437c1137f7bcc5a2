package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSight: what a command sees is compared with what is there for who does its job, also where the
// directory itself is yet to be made.
func TestSight(t *testing.T) {
	dir := t.TempDir()
	made, later := filepath.Join(dir, "made"), filepath.Join(dir, "made", "a", "b")
	if err := os.Mkdir(made, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := see(later)
	if err != nil || s.Dir != made {
		t.Fatalf("of %s %+v is seen, %v", later, s, err)
	}
	told, err := json.Marshal(exportJob{Layout: later, Seen: s})
	if err != nil {
		t.Fatal(err)
	}
	var job exportJob
	if err := json.Unmarshal(told, &job); err != nil {
		t.Fatal(err)
	}
	if err := job.Seen.same(); err != nil {
		t.Errorf("the same: %v", err)
	}
	if err := os.Rename(made, made+" before"); err != nil {
		t.Fatal(err)
	}
	if err := job.Seen.same(); err == nil || !strings.Contains(err.Error(), "does not see this "+made) {
		t.Errorf("of one that it does not have: %v", err)
	}
	if err := os.Mkdir(made, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := job.Seen.same(); err == nil || !strings.Contains(err.Error(), "does not see this "+made) {
		t.Errorf("of another one: %v", err)
	}
	if err := (exportJob{}).Seen.same(); err != nil {
		t.Errorf("of a command that says nothing: %v", err)
	}
	if _, err := see(filepath.Join(made, strings.Repeat("x", 300))); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what cannot be looked at: %v", err)
	}
}
