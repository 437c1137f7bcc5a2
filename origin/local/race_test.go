package local_test

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// pausing lets something happen between the reading of a record and its reader's
// next step, once.
type pausing struct {
	*mem.Records
	key     string
	between atomic.Pointer[func()]
}

func (p *pausing) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := p.Records.Get(ctx, key)
	if strings.HasPrefix(key, p.key) {
		if f := p.between.Swap(nil); f != nil {
			(*f)()
		}
	}
	return rec, err
}

// A reader misses its cache and reads the record; a deletion begins before the
// reader keeps what it read. Either the deletion waits and then takes it out of
// memory, or memory would hold what is gone, for ever.
func TestFillMeetsDeletion(t *testing.T) {
	tree := origintest.Image([]byte("{}"), []byte("layer"))
	layer := tree.Blobs[1].Digest
	for _, c := range []struct {
		name, key string
		read      func(ctx context.Context, reg *local.Registry, repo origin.Repo) error
		remove    func(ctx context.Context, reg *local.Registry, repo origin.Repo) error
	}{
		{"tag", "r/a/_t/", func(ctx context.Context, reg *local.Registry, repo origin.Repo) error {
			_, err := reg.Resolve(ctx, repo, origintest.Ref(t, "x"))
			return err
		}, func(ctx context.Context, reg *local.Registry, repo origin.Repo) error {
			return reg.DeleteManifest(ctx, repo, origintest.Ref(t, "x"))
		}},
		{"tag of a deleted manifest", "r/a/_t/", func(ctx context.Context, reg *local.Registry, repo origin.Repo) error {
			_, err := reg.Resolve(ctx, repo, origintest.Ref(t, "x"))
			return err
		}, func(ctx context.Context, reg *local.Registry, repo origin.Repo) error {
			return reg.DeleteManifest(ctx, repo, origin.ByDigest(tree.Digest()))
		}},
		{"manifest", "r/a/_m/", func(ctx context.Context, reg *local.Registry, repo origin.Repo) error {
			_, err := reg.Resolve(ctx, repo, origin.ByDigest(tree.Digest()))
			return err
		}, func(ctx context.Context, reg *local.Registry, repo origin.Repo) error {
			return reg.DeleteManifest(ctx, repo, origin.ByDigest(tree.Digest()))
		}},
		{"blob", "r/a/_b/", func(ctx context.Context, reg *local.Registry, repo origin.Repo) error {
			_, err := reg.Stat(ctx, repo, layer)
			return err
		}, func(ctx context.Context, reg *local.Registry, repo origin.Repo) error {
			return reg.DeleteBlob(ctx, repo, layer)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			blobs, records := mem.NewBlobs(), &pausing{Records: mem.NewRecords(), key: c.key}
			reopen := func() *local.Registry {
				reg, err := local.New(blobs, records, local.Options{Delete: true})
				if err != nil {
					t.Fatal(err)
				}
				return reg
			}
			tree.Push(t, reopen(), "a", "x")
			reg, repo := reopen(), origintest.Repo(t, "a") // remembers nothing
			removed := make(chan error, 1)
			between := func() {
				go func() { removed <- c.remove(t.Context(), reg, repo) }()
				// Long enough for a deletion that does not wait; one that does is not done.
				for range 1000 {
					runtime.Gosched()
				}
			}
			records.between.Store(&between)
			// A tag is answered by its manifest, which may go as soon as the tag was read.
			if err := c.read(t.Context(), reg, repo); err != nil && !(origin.Unknown(err) && c.name == "tag of a deleted manifest") {
				t.Errorf("what was there when it was read: %v", err)
			}
			if err := <-removed; err != nil {
				t.Errorf("deletion: %v", err)
			}
			if err := c.read(t.Context(), reg, repo); !origin.Unknown(err) {
				t.Errorf("after the deletion: %v", err)
			}
		})
	}
}

// A reader learns what a tag names; the tag moves on and its old manifest is
// deleted; the reader asks for the manifest. A tag that always named something
// is never unknown.
func TestTagMovesUnderReader(t *testing.T) {
	one, two := origintest.Image([]byte(`{"n":1}`)), origintest.Image([]byte(`{"n":2}`))
	blobs, records := mem.NewBlobs(), mem.NewRecords()
	reopen := func() *local.Registry {
		reg, err := local.New(blobs, records, local.Options{Delete: true})
		if err != nil {
			t.Fatal(err)
		}
		return reg
	}
	other := reopen()
	one.Push(t, other, "a", "x")
	// The other registry stands for another process: no lock of ours holds it up.
	seam := &pausing{Records: records, key: "r/a/_t/x"}
	move := func() {
		two.Push(t, other, "a", "x")
		if err := other.DeleteManifest(t.Context(), origintest.Repo(t, "a"), origin.ByDigest(one.Digest())); err != nil {
			t.Error(err)
		}
	}
	seam.between.Store(&move)
	reg, err := local.New(blobs, seam, local.Options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	m, err := reg.Manifest(t.Context(), origintest.Repo(t, "a"), origintest.Ref(t, "x"))
	if err != nil || m.Digest != two.Digest() {
		t.Errorf("%s, %v; want %s", m.Digest, err, two.Digest())
	}
}
