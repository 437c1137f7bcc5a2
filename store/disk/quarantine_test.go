package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// Wherever the power is cut while a blob is quarantined and written again, what is left is
// the blob or no blob, as the last call that returned says, and its bytes are somewhere for
// an operator to look at from when they were durable.
func TestQuarantineCrash(t *testing.T) {
	const seeds = 40
	data := []byte("what a disk will spoil")
	d := digest.FromBytes(data)
	points := 0
	for seed := range uint64(seeds) {
		dir := filepath.Join(disktest.Dir(t), fmt.Sprint("live-", seed))
		must(t, os.MkdirAll(dir, 0o700))
		crash, err := disktest.NewCrash(dir)
		must(t, err)
		s := open(t, dir, disk.Options{Boot: "0", FS: crash.FS})
		b, rnd := s.Blobs(), rand.New(rand.NewPCG(seed, 0))
		acked, under := "nothing", "commit" // what the last call did, and what the next one does
		check := func() {
			points++
			left := filepath.Join(disktest.Dir(t), fmt.Sprint("left-", seed, "-", points))
			must(t, crash.Cut(rnd).Write(left))
			defer func() { must(t, os.RemoveAll(left)) }()
			s, err := disk.Open(left, disk.Options{Boot: "1"})
			must(t, err)
			defer func() { must(t, s.Close()) }()
			_, err = s.Blobs().Stat(t.Context(), d)
			there := err == nil
			if !there && !errors.Is(err, store.ErrNotFound) {
				t.Errorf("seed %d, %s after %s: %v", seed, under, acked, err)
			}
			if under == "" && there != (acked == "commit") {
				t.Errorf("seed %d, after %s: the blob is there: %t", seed, acked, there)
			}
			if got, err := os.ReadFile(filepath.Join(left, "blobs", "sha256", d.Encoded())); there && (err != nil || !bytes.Equal(got, data)) {
				t.Errorf("seed %d, %s after %s: the blob is torn", seed, under, acked)
			}
			kept, err := os.ReadFile(filepath.Join(left, "quarantine", "sha256-"+d.Encoded()))
			if acked != "nothing" && !there && (err != nil || !bytes.Equal(kept, data)) {
				t.Errorf("seed %d, %s after %s: the bytes are nowhere: %q, %v", seed, under, acked, kept, err)
			}
		}
		crash.Hook(check)
		for range 2 {
			under = "commit"
			ing, err := b.Ingest(t.Context(), "", digest.SHA256)
			must(t, err)
			_, err = ing.Write(data)
			must(t, err)
			_, err = ing.Commit(t.Context(), d)
			must(t, err)
			acked, under = "commit", ""
			check()
			under = "quarantine"
			must(t, b.Quarantine(t.Context(), d))
			acked, under = "quarantine", ""
			check()
		}
		crash.Hook(nil)
	}
	if points < 20*seeds {
		t.Errorf("only %d power cuts", points)
	}
}
