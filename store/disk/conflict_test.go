package disk_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// Whoever is told that a record is there relies on it. While its writer waits for the
// sync of the log nobody sees it, and who wants to write it waits too: after a power cut
// the record would be gone.
func TestConflictWaitsForTheSync(t *testing.T) {
	var f disktest.Faulty
	s := open(t, t.TempDir(), disk.Options{FS: f.FS})
	must(t, putRecord(s, "a/first", "makes the directory", store.Absent()))

	inSync, goOn := make(chan struct{}), make(chan struct{})
	var synced bool // by the writer, before goOn is closed; read after the loser's answer
	f.Arm(func(_ int, call string) error {
		if strings.HasPrefix(call, "sync log/") {
			close(inSync)
			<-goOn
			synced = true
		}
		return nil
	})
	first := make(chan error, 1)
	go func() { first <- putRecord(s, "a/b", "one", store.Absent()) }()
	<-inSync
	if _, err := s.Records().Get(t.Context(), "a/b"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get before the record is durable: %v, want ErrNotFound", err)
	}
	second := make(chan error, 1)
	go func() { second <- putRecord(s, "a/b", "two", store.Absent()) }()
	for !waitsForALock() {
		select {
		case err := <-second:
			close(goOn)
			t.Fatalf("told %v before the record is durable", errors.Join(err, <-first))
		default:
			runtime.Gosched()
		}
	}
	close(goOn)
	if err := <-second; !errors.Is(err, store.ErrConflict) || !synced {
		t.Errorf("the second write: %v, want ErrConflict, after the sync (%t)", err, synced)
	}
	must(t, <-first)
	if calls := strings.Join(f.Disarm(), "\n"); strings.Count(calls, "create tmp/") != 1 {
		t.Errorf("the loser writes:\n%s", calls)
	}
}

// waitsForALock reports whether a goroutine waits for the lock of a record.
func waitsForALock() bool {
	buf := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "[sync.Mutex.Lock") && strings.Contains(g, "(*Records).put") {
			return true
		}
	}
	return false
}
