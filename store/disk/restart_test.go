package disk_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// A restart ends a process: close ends it in good order, kill does not.
const half = 4000

// interrupted leaves an ingest of the content's first half behind, in the boot
// given, and gives its id and the file of its data.
func interrupted(t *testing.T, dir, boot string, alg digest.Algorithm) (id, file string) {
	t.Helper()
	s := open(t, dir, disk.Options{Boot: boot})
	ing, err := s.Blobs().Ingest(t.Context(), "", alg)
	must(t, err)
	_, err = ing.Write(content[:half])
	must(t, errors.Join(err, ing.Close(), s.Close()))
	return ing.ID(), filepath.Join(dir, "ingest", ing.ID()+"."+string(alg))
}

// finish resumes an ingest, wants its size, writes what the content has behind that
// and commits it.
func finish(t *testing.T, s *disk.Store, id string, size int64, d digest.Digest) error {
	t.Helper()
	ing, err := s.Blobs().Ingest(t.Context(), id, "")
	must(t, err)
	defer ing.Close()
	if ing.Size() != size {
		t.Errorf("resumed at %d, want %d", ing.Size(), size)
	}
	_, err = ing.Write(content[ing.Size():])
	must(t, err)
	_, err = ing.Commit(t.Context(), d)
	return err
}

// flip changes the first byte of a file.
func flip(t *testing.T, name string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte{content[0] ^ 1}, 0)
	must(t, err)
}

// In the same boot the data is not read again: a byte of it that was changed
// meanwhile is not noticed, though the digest is the one of the content.
func TestResumeInTheSameBootReadsNothing(t *testing.T) {
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		dir := t.TempDir()
		id, file := interrupted(t, dir, "one", alg)
		flip(t, file)
		s := open(t, dir, disk.Options{Boot: "one"})
		check(t, string(alg), finish(t, s, id, half, alg.FromBytes(content)))
	}
}

// In another boot it is read, and a byte that the disk has otherwise is noticed.
func TestResumeInAnotherBootReadsAll(t *testing.T) {
	dir := t.TempDir()
	id, file := interrupted(t, dir, "one", digest.SHA256)
	good, _ := interrupted(t, dir, "one", digest.SHA256)
	flip(t, file)
	s := open(t, dir, disk.Options{Boot: "two"})
	if err := finish(t, s, id, half, named); !errors.Is(err, store.ErrDigest) {
		t.Errorf("commit of data that the disk has otherwise: %v, want ErrDigest", err)
	}
	check(t, "whole data", finish(t, s, good, half, named))
}

// What the kernel never wrote of a file's end reads as zeros, or is not there.
func TestResumeOfATornTail(t *testing.T) {
	for name, tear := range map[string]struct {
		tear func(file string) error
		size int64
		want error
	}{
		"cut":      {func(file string) error { return os.Truncate(file, 1000) }, 1000, nil},
		"zeros":    {zeroTail, half, store.ErrDigest},
		"vanished": {func(file string) error { return os.Truncate(file, 0) }, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			id, file := interrupted(t, dir, "one", digest.SHA256)
			must(t, tear.tear(file))
			s := open(t, dir, disk.Options{Boot: "two"})
			if err := finish(t, s, id, tear.size, named); !errors.Is(err, tear.want) {
				t.Errorf("commit: %v, want %v", err, tear.want)
			}
		})
	}
}

func zeroTail(file string) error {
	return errors.Join(os.Truncate(file, half-100), os.Truncate(file, half))
}

// A process that is killed leaves no state, or an older one: what was written
// behind it is cut off, and nothing is read.
func TestResumeAfterAKill(t *testing.T) {
	for name, closed := range map[string]bool{"before the first close": false, "after a close": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			id, size := "", int64(0)
			if closed {
				id, _ = interrupted(t, dir, "one", digest.SHA256)
			}
			s, f := faulty(t, dir)
			ing, err := s.Blobs().Ingest(t.Context(), id, digest.SHA256)
			must(t, err)
			_, err = ing.Write(content[ing.Size() : ing.Size()+500])
			must(t, err)
			id = ing.ID()
			f.Arm(disktest.From(0, syscall.EIO)) // from here on it does nothing more
			if err := ing.Close(); !errors.Is(err, syscall.EIO) {
				t.Errorf("Close: %v, want EIO", err)
			}
			must(t, s.Close())
			size = 500
			if closed {
				size = half
			}
			s = open(t, dir, disk.Options{Boot: "one"})
			if closed {
				flip(t, filepath.Join(dir, "ingest", id+".sha256"))
			}
			check(t, "commit", finish(t, s, id, size, named))
		})
	}
}

// A state that is not one is as none.
func TestResumeWithoutAState(t *testing.T) {
	sha512 := digest.SHA512
	for name, spoil := range map[string]func(state []byte) []byte{
		"missing":      func([]byte) []byte { return nil },
		"empty":        func([]byte) []byte { return []byte{} },
		"garbage":      func([]byte) []byte { return []byte("garbage") },
		"cut":          func(s []byte) []byte { return s[:len(s)/2] },
		"not a state":  func([]byte) []byte { return []byte(`[]`) },
		"too large":    edit("size", half+1),
		"negative":     edit("size", -1),
		"no boot":      edit("boot", ""),
		"other boot":   edit("boot", "two"),
		"no hash":      edit("hash", ""),
		"another hash": edit("hash", "bWQ1AQ=="),
		"hash of another algorithm": func([]byte) []byte {
			dir := t.TempDir()
			id, _ := interrupted(t, dir, "one", sha512)
			state, err := os.ReadFile(filepath.Join(dir, "ingest", id+".state"))
			must(t, err)
			return state
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			id, file := interrupted(t, dir, "one", digest.SHA256)
			stateFile := strings.TrimSuffix(file, ".sha256") + ".state"
			state, err := os.ReadFile(stateFile)
			must(t, err)
			must(t, os.Remove(stateFile))
			if state = spoil(state); state != nil {
				must(t, os.WriteFile(stateFile, state, 0o600))
			}
			flip(t, file)
			s := open(t, dir, disk.Options{Boot: "one"})
			if err := finish(t, s, id, half, named); !errors.Is(err, store.ErrDigest) {
				t.Errorf("commit of changed data: %v, want ErrDigest: it was not read", err)
			}
			if left, err := filepath.Glob(filepath.Join(dir, "ingest", "*")); err != nil || len(left) > 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

// edit changes one field of a state.
func edit(field string, value any) func([]byte) []byte {
	return func(state []byte) []byte {
		var fields map[string]any
		if err := json.Unmarshal(state, &fields); err != nil {
			panic(err)
		}
		fields[field] = value
		state, err := json.Marshal(fields)
		if err != nil {
			panic(err)
		}
		return state
	}
}

// Asking how far an ingest has come, or to hold it without a write, keeps its
// state, and a resumption without one makes none of what it did not read.
func TestStateIsKept(t *testing.T) {
	dir := t.TempDir()
	id, file := interrupted(t, dir, "one", digest.SHA256)
	flip(t, file)
	for range 3 {
		s := open(t, dir, disk.Options{Boot: "one"})
		ing, err := s.Blobs().Ingest(t.Context(), id, "")
		must(t, err)
		must(t, errors.Join(ing.Close(), s.Close()))
	}
	s := open(t, dir, disk.Options{Boot: "two"})
	ing, err := s.Blobs().Ingest(t.Context(), id, "")
	must(t, err)
	_, err = ing.Write(content[half : half+10])
	must(t, errors.Join(err, ing.Close()))
	if err := finish(t, s, id, half+10, named); !errors.Is(err, store.ErrDigest) {
		t.Errorf("commit of changed data: %v, want ErrDigest: it was not read", err)
	}
}

// Closing an ingest syncs nothing: many small chunks would pay for it.
func TestCloseDoesNotSync(t *testing.T) {
	s, f := faulty(t, t.TempDir())
	ing, err := s.Blobs().Ingest(t.Context(), "", digest.SHA256)
	must(t, err)
	f.Arm(nil)
	_, err = ing.Write(content)
	must(t, errors.Join(err, ing.Close()))
	for _, call := range f.Disarm() {
		if strings.HasPrefix(call, "sync") {
			t.Errorf("%s", call)
		}
	}
}

// After a failed sync of the data its pages may be clean and not on the disk, and
// a second sync would not say so. The ingest is gone, and no sync is repeated.
func TestFailedSyncDropsTheIngest(t *testing.T) {
	dir := t.TempDir()
	s, f := faulty(t, dir)
	ing, err := s.Blobs().Ingest(t.Context(), "", digest.SHA256)
	must(t, err)
	_, err = ing.Write(content)
	must(t, err)
	f.Arm(func(_ int, call string) error {
		if strings.HasPrefix(call, "sync ") {
			return syscall.EIO
		}
		return nil
	})
	if _, err := ing.Commit(t.Context(), named); !errors.Is(err, syscall.EIO) {
		t.Errorf("Commit: %v, want EIO", err)
	}
	must(t, ing.Close())
	syncs := 0
	for _, call := range f.Disarm() {
		if strings.HasPrefix(call, "sync") {
			syncs++
		}
	}
	if syncs != 1 {
		t.Errorf("%d syncs, want the one that failed", syncs)
	}
	if _, err := s.Blobs().Ingest(t.Context(), ing.ID(), ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("resume: %v, want ErrNotFound", err)
	}
	check(t, "nothing is left", errors.Join(wantNoBlob(s), wantNoIngests(s)))
}

// A file with a second name is no ingest, whoever made it one: it is not written.
func TestIngestWithASecondName(t *testing.T) {
	dir := t.TempDir()
	id, file := interrupted(t, dir, "one", digest.SHA256)
	other := filepath.Join(t.TempDir(), "other")
	must(t, os.Link(file, other))
	s := open(t, dir, disk.Options{Boot: "one"})
	if _, err := s.Blobs().Ingest(t.Context(), id, ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("resume: %v, want ErrNotFound", err)
	}
	got, err := os.ReadFile(other)
	must(t, err)
	if !bytes.Equal(got, content[:half]) {
		t.Errorf("the other name has %d other bytes", len(got))
	}
	check(t, "nothing is left", wantNoIngests(s))
}

// Everything acknowledged is there after a restart, versions included.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, disk.Options{})
	must(t, ingestParts(s, digest.SHA256, named, 2))
	version, err := s.Records().Put(t.Context(), "a/b", []byte("value"), store.Absent())
	must(t, errors.Join(err, s.Close()))

	s = open(t, dir, disk.Options{})
	check(t, "blob", wantBlob(s))
	rec, err := s.Records().Get(t.Context(), "a/b")
	must(t, err)
	if string(rec.Data) != "value" || rec.Version != version {
		t.Errorf("record %q of version %s, want value of %s", rec.Data, rec.Version, version)
	}
	blob, err := s.Blobs().Open(t.Context(), named, store.Range{Off: 10, Len: 10})
	must(t, err)
	must(t, s.Close())
	// What is open outlives the store.
	got, err := io.ReadAll(blob.Body)
	must(t, errors.Join(err, blob.Body.Close()))
	if !bytes.Equal(got, content[10:20]) {
		t.Errorf("read %q", got)
	}
	if _, err := s.Blobs().Stat(t.Context(), named); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("stat in a closed store: %v, want another error", fmt.Sprint(err))
	}
}
