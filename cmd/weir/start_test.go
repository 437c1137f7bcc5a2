package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestStartDoesNotLook: a start asks as much of the store with 2,000 tags, manifests
// and blobs as with none.
func TestStartDoesNotLook(t *testing.T) {
	dir := t.TempDir()
	p := newProcess(t, dir, "")
	p.start()
	push(t, p, "team/app", []byte("content"), digest.FromString("content"))
	p.stop()
	before := startCalls(t, dir)

	tags := filepath.Join(dir, "records", "r", "team", "app")
	for _, sub := range []string{"_t", "_m/sha256", "_r/sha256"} {
		if err := os.MkdirAll(filepath.Join(tags, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2000 {
		hex := digest.FromString(fmt.Sprint(i)).Encoded()
		for _, name := range []string{
			filepath.Join(dir, "blobs", "sha256", hex),
			filepath.Join(tags, "_t", fmt.Sprint("v", i)),
			filepath.Join(tags, "_m", "sha256", hex),
			filepath.Join(tags, "_b", "sha256", hex),
		} {
			if err := os.WriteFile(name, []byte("stored"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	// To list one of these directories takes 20 calls; that there is a log to be looked
	// through takes some.
	const looks = 10
	if after := startCalls(t, dir); after > before+looks {
		t.Errorf("with nothing stored a start makes %d calls, and with much %d", before, after)
	}
}

// startCalls counts the calls on the store's directory that a start makes until it
// listens on both of its addresses: what is looked at after that nobody waits for.
func startCalls(t *testing.T, dir string) int {
	t.Helper()
	before, file := traced(t, "%file,getdents64,fsync,fdatasync,read,pread64,listen")
	p := newProcess(t, dir, "", before...)
	p.start()
	p.stop()
	calls, listens := 0, 0
	for _, line := range lines(t, file) {
		if strings.Contains(line, dir) {
			calls++
		}
		if strings.Contains(line, " listen(") {
			if listens++; listens == 2 {
				break
			}
		}
	}
	if calls < 10 || listens < 2 {
		t.Fatalf("%d calls: the trace does not show the store", calls)
	}
	return calls
}
