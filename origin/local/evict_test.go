package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
	"github.com/weir-registry/weir/store/mem"
)

// evictable gives what may be evicted, sorted.
func evictable(t testing.TB, reg *local.Registry) []digest.Digest {
	t.Helper()
	var list []digest.Digest
	for info, err := range reg.Evictable(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, info.Digest)
	}
	slices.Sort(list)
	return list
}

// mirror puts content into a repository as a mirror does.
func mirror(t testing.TB, reg *local.Registry, repo string, content []byte) digest.Digest {
	t.Helper()
	return origintest.PushBlob(t, reg.Mirrored(), repo, content)
}

// What a mirror wrote is marked in its record, until a client pushes the same, or a
// manifest that names it.
func TestMarks(t *testing.T) {
	const repo = "hub/app"
	content := []byte("layer")
	image := origintest.Image([]byte("{}"), content)
	index := origintest.Index(image)
	layer := image.Blobs[1].Digest
	link := "r/hub/app/_b/" + strings.Replace(layer.String(), ":", "/", 1)
	record := "r/hub/app/_m/" + strings.Replace(image.Digest().String(), ":", "/", 1)
	sparse := func(t testing.TB, reg *local.Registry, m origin.Manifest) {
		t.Helper()
		if _, err := reg.Push(t.Context(), origintest.Repo(t, repo), m, origin.PushOptions{Sparse: true}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		do     func(t testing.TB, reg *local.Registry)
		key    string
		marked bool
	}{
		{"mirrored upload", func(testing.TB, *local.Registry) {}, link, true},
		{"mirrored mount", func(t testing.TB, reg *local.Registry) {
			mirror(t, reg, "hub/base", content)
			if _, err := reg.Mirrored().Mount(t.Context(), origin.Repo{}, origintest.Repo(t, repo), layer); err != nil {
				t.Fatal(err)
			}
		}, link, true},
		{"upload", func(t testing.TB, reg *local.Registry) { origintest.PushBlob(t, reg, repo, content) }, link, false},
		{"upload, then mirrored again", func(t testing.TB, reg *local.Registry) {
			origintest.PushBlob(t, reg, repo, content)
			mirror(t, reg, repo, content)
		}, link, false},
		{"mount", func(t testing.TB, reg *local.Registry) {
			mirror(t, reg, "hub/base", content)
			if _, err := reg.Mount(t.Context(), origintest.Repo(t, "hub/base"), origintest.Repo(t, repo), layer); err != nil {
				t.Fatal(err)
			}
		}, link, false},
		{"sparse manifest", func(t testing.TB, reg *local.Registry) { sparse(t, reg, image.Manifest) }, record, true},
		{"sparse manifest, its blob", func(t testing.TB, reg *local.Registry) { sparse(t, reg, image.Manifest) }, link, true},
		{"manifest", func(t testing.TB, reg *local.Registry) {
			origintest.PushManifest(t, reg, repo, image.Manifest)
		}, record, false},
		{"manifest, its blob", func(t testing.TB, reg *local.Registry) {
			origintest.PushManifest(t, reg, repo, image.Manifest)
		}, link, false},
		{"sparse, then pushed", func(t testing.TB, reg *local.Registry) {
			sparse(t, reg, image.Manifest)
			origintest.PushManifest(t, reg, repo, image.Manifest, "v1")
		}, record, false},
		{"pushed, then sparse", func(t testing.TB, reg *local.Registry) {
			origintest.PushManifest(t, reg, repo, image.Manifest, "v1")
			sparse(t, reg, image.Manifest)
		}, record, false},
		{"index, its child", func(t testing.TB, reg *local.Registry) {
			sparse(t, reg, image.Manifest)
			origintest.PushManifest(t, reg, repo, index.Manifest)
		}, record, false},
		{"index, its child's blob", func(t testing.TB, reg *local.Registry) {
			sparse(t, reg, image.Manifest)
			origintest.PushManifest(t, reg, repo, index.Manifest)
		}, link, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			records := mem.NewRecords()
			blobs := mem.NewBlobs()
			reg := over(t, blobs, records)
			for _, b := range image.Blobs {
				mirror(t, reg, repo, b.Bytes)
			}
			tt.do(t, reg)
			rec, err := records.Get(t.Context(), tt.key)
			if err != nil {
				t.Fatal(err)
			}
			head, _, _ := bytes.Cut(rec.Data, []byte("\n"))
			if got := bytes.Contains(head, []byte(`"mirrored":true`)); got != tt.marked {
				t.Errorf("record %s", head)
			}
			// Memory says the same as the store.
			if tt.key != link {
				return
			}
			for name, reg := range map[string]*local.Registry{"this": reg, "the next process": over(t, blobs, records)} {
				if got := slices.Contains(evictable(t, reg), layer); got != tt.marked {
					t.Errorf("%s: evictable: %v", name, got)
				}
				if !tt.marked {
					wantError(t, name+": evict", reg.Evict(t.Context(), layer), origin.ErrPushed)
				}
			}
		})
	}
}

// What goes, goes from everywhere; who reads it reads on; and it can come again.
func TestEvict(t *testing.T) {
	s, err := disk.Open(t.TempDir(), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	reg := over(t, s.Blobs(), s.Records())
	content := origintest.Bytes(1, 1<<20)
	d := mirror(t, reg, "hub/a", content)
	mirror(t, reg, "hub/b", content)
	wantError(t, "before it is known who links what", reg.Evict(t.Context(), d), origin.ErrBusy)
	if got := evictable(t, reg); !slices.Equal(got, []digest.Digest{d}) {
		t.Errorf("evictable: %v", got)
	}
	mirror(t, reg, "hub/c", content) // it is told
	reading, err := reg.Blob(t.Context(), origintest.Repo(t, "hub/a"), d, store.Range{})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Evict(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(reading.Body); err != nil || !bytes.Equal(got, content) {
		t.Errorf("a reader got %d bytes, %v", len(got), err)
	}
	if err := reading.Body.Close(); err != nil {
		t.Error(err)
	}
	for _, repo := range []string{"hub/a", "hub/b", "hub/c"} {
		_, err := reg.Stat(t.Context(), origintest.Repo(t, repo), d)
		wantError(t, repo, err, origin.ErrBlobUnknown)
	}
	_, err = reg.Holds(t.Context(), d)
	wantError(t, "bytes", err, origin.ErrBlobUnknown)
	wantError(t, "again", reg.Evict(t.Context(), d), origin.ErrBlobUnknown)

	mirror(t, reg, "hub/a", content)
	origintest.CheckBlob(t, reg, "hub/a", d, content)
	_, err = reg.Stat(t.Context(), origintest.Repo(t, "hub/b"), d)
	wantError(t, "a link that went", err, origin.ErrBlobUnknown)
	origintest.PushBlob(t, reg, "team/app", content)
	wantError(t, "pushed elsewhere", reg.Evict(t.Context(), d), origin.ErrPushed)
	if got := evictable(t, reg); len(got) != 0 {
		t.Errorf("evictable: %v", got)
	}
	origintest.CheckBlob(t, reg, "hub/a", d, content)
}

// What goes from one of several repositories stays in the others, with its bytes; from the
// last one it does not go so, nor anything that was pushed.
func TestEvictFrom(t *testing.T) {
	for name, o := range map[string]local.Options{
		"one process": {Delete: true},
		"sole":        {Delete: true, Grace: time.Hour, Sole: true},
		"shared":      {Delete: true, Grace: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			reg, err := local.New(mem.NewBlobs(), mem.NewRecords(), o)
			if err != nil {
				t.Fatal(err)
			}
			content := []byte("layer")
			d := mirror(t, reg, "hub/a", content)
			mirror(t, reg, "hub/b", content)
			mirror(t, reg, "hub/c", content)
			from := func(repo string) error { return reg.EvictFrom(t.Context(), origintest.Repo(t, repo), d) }
			wantError(t, "before it is known who links what", from("hub/a"), origin.ErrBusy)
			evictable(t, reg)
			wantError(t, "from where it is not", from("hub/d"), origin.ErrBlobUnknown)
			wantError(t, "from one of three", from("hub/a"), nil)
			wantError(t, "again", from("hub/a"), origin.ErrBlobUnknown)
			_, err = reg.Stat(t.Context(), origintest.Repo(t, "hub/a"), d)
			wantError(t, "there", err, origin.ErrBlobUnknown)
			origintest.CheckBlob(t, reg, "hub/b", d, content)

			// Of two who take the last two links one does.
			var both [2]error
			var all sync.WaitGroup
			for i, repo := range []string{"hub/b", "hub/c"} {
				all.Go(func() { both[i] = from(repo) })
			}
			all.Wait()
			if (both[0] == nil) == (both[1] == nil) {
				t.Errorf("from the last two: %v", both)
			}
			last := "hub/b"
			if both[0] == nil {
				last = "hub/c"
			}
			wantError(t, "from the last one", from(last), origin.ErrOnly)
			origintest.CheckBlob(t, reg, last, d, content)

			origintest.PushBlob(t, reg, "team/app", content)
			wantError(t, "of what was pushed", from(last), origin.ErrPushed)
			origintest.CheckBlob(t, reg, last, d, content)
		})
	}
}

// A link without bytes, which an eviction that was interrupted leaves, is a miss, and
// whole again with the bytes.
func TestEvictInterrupted(t *testing.T) {
	blobs, records := mem.NewBlobs(), mem.NewRecords()
	reg := over(t, blobs, records)
	d := mirror(t, reg, "hub/a", []byte("layer"))
	if err := blobs.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	reg = over(t, blobs, records)
	if got := evictable(t, reg); len(got) != 0 {
		t.Errorf("evictable: %v", got)
	}
	_, err := reg.Blob(t.Context(), origintest.Repo(t, "hub/a"), d, store.Range{})
	wantError(t, "read", err, origin.ErrBlobUnknown)
	mirror(t, reg, "hub/a", []byte("layer"))
	origintest.CheckBlob(t, reg, "hub/a", d, []byte("layer"))
	if err := reg.Evict(t.Context(), d); err != nil {
		t.Error(err)
	}
}

// Clients push, mount and name in manifests what is evicted all the time. Whatever
// they were told is there stays there.
func TestEvictMeetsPushes(t *testing.T) {
	s, err := disk.Open(disktest.Dir(t), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	reg := over(t, s.Blobs(), s.Records())
	evictable(t, reg)
	const rounds = 60
	for i := range rounds {
		image := origintest.Image(fmt.Appendf(nil, `{"n":%d}`, i), origintest.Bytes(uint64(i), 100))
		for _, b := range image.Blobs {
			mirror(t, reg, "hub/app", b.Bytes)
		}
		layer := image.Blobs[1]
		hub, team := origintest.Repo(t, "hub/app"), origintest.Repo(t, "team/app")
		var all sync.WaitGroup
		var promised sync.Map // repository to whether it has the layer
		try := func(repo origin.Repo, do func(ctx context.Context) error) {
			all.Go(func() {
				switch err := do(t.Context()); {
				case err == nil:
					promised.Store(repo, true)
				case !origin.Unknown(err) && !errors.Is(err, origin.ErrManifestBlobUnknown):
					t.Error(err)
				}
			})
		}
		for range 2 {
			all.Go(func() {
				for _, b := range image.Blobs {
					if err := reg.Evict(t.Context(), b.Digest); err != nil && !origin.Unknown(err) &&
						!errors.Is(err, origin.ErrBusy) && !errors.Is(err, origin.ErrPushed) {
						t.Error(err)
					}
				}
			})
		}
		switch i % 3 {
		case 0:
			try(team, func(ctx context.Context) error {
				_, err := reg.Mount(ctx, hub, team, layer.Digest)
				return err
			})
		case 1:
			try(hub, func(ctx context.Context) error {
				_, err := reg.Push(ctx, hub, image.Manifest, origin.PushOptions{})
				return err
			})
		case 2:
			try(team, func(ctx context.Context) error {
				in, err := reg.Upload(ctx, team, "", digest.SHA256)
				if err != nil {
					return err
				}
				if _, err := in.Write(layer.Bytes); err != nil {
					return err
				}
				_, err = in.Commit(ctx, layer.Digest)
				return err
			})
		}
		all.Wait()
		promised.Range(func(repo, _ any) bool {
			origintest.CheckBlob(t, reg, repo.(origin.Repo).String(), layer.Digest, layer.Bytes)
			wantError(t, "evict what was pushed", reg.Evict(t.Context(), layer.Digest), origin.ErrPushed)
			return true
		})
	}
}

// Whatever call to the disk fails while a blob is evicted, what was pushed is there, and
// of what goes nothing is there that is not whole; again, it goes.
func TestEvictFaults(t *testing.T) {
	base := disktest.Dir(t)
	content := origintest.Bytes(1, 3000)
	kept := origintest.Bytes(2, 3000)
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
		for n := 0; ; n++ {
			var faulty disktest.Faulty
			s, err := disk.Open(filepath.Join(base, fmt.Sprint(fault, n)), disk.Options{FS: faulty.FS})
			if err != nil {
				t.Fatal(err)
			}
			reg := over(t, s.Blobs(), s.Records())
			d := mirror(t, reg, "hub/a", content)
			mirror(t, reg, "hub/b", content)
			mirror(t, reg, "hub/a", kept)
			origintest.PushBlob(t, reg, "team/app", kept)
			evictable(t, reg)
			faulty.Arm(disktest.Nth(n, fault))
			err = reg.Evict(t.Context(), d)
			calls := len(faulty.Disarm())
			for _, repo := range []string{"hub/a", "hub/b"} {
				b, err := reg.Blob(t.Context(), origintest.Repo(t, repo), d, store.Range{})
				if err == nil {
					got, err := io.ReadAll(b.Body)
					if b.Body.Close(); err != nil || !bytes.Equal(got, content) {
						t.Errorf("call %d: %s has %d bytes, %v", n, repo, len(got), err)
					}
				} else if !origin.Unknown(err) {
					t.Errorf("call %d: %s: %v", n, repo, err)
				}
			}
			origintest.CheckBlob(t, reg, "team/app", digest.FromBytes(kept), kept)
			if err := reg.Evict(t.Context(), d); err != nil && !origin.Unknown(err) {
				t.Errorf("call %d: again: %v", n, err)
			}
			if _, err := reg.Holds(t.Context(), d); !origin.Unknown(err) {
				t.Errorf("call %d: bytes are left: %v", n, err)
			}
			if err := s.Close(); err != nil && n < calls {
				t.Logf("call %d: close: %v", n, err)
			}
			if n >= calls {
				if err != nil || n == 0 {
					t.Errorf("without a fault: %v", err)
				}
				break
			}
		}
	}
}

// A blob that was taken out of all repositories, one by one, is nobody's to evict; linked
// again it is.
func TestEvictAfterDeletions(t *testing.T) {
	reg := open(t, local.Options{Delete: true})
	d := mirror(t, reg, "hub/a", []byte("layer"))
	mirror(t, reg, "hub/b", []byte("layer"))
	mirror(t, reg, "hub/c", []byte("layer"))
	evictable(t, reg)
	for _, repo := range []string{"hub/b", "hub/a", "hub/c"} {
		if err := reg.DeleteBlob(t.Context(), origintest.Repo(t, repo), d); err != nil {
			t.Fatal(err)
		}
	}
	if got := evictable(t, reg); len(got) != 0 {
		t.Errorf("evictable without a link: %v", got)
	}
	mirror(t, reg, "hub/b", []byte("layer"))
	if err := reg.Evict(t.Context(), d); err != nil {
		t.Error(err)
	}
	_, err := reg.Stat(t.Context(), origintest.Repo(t, "hub/b"), d)
	wantError(t, "stat", err, origin.ErrBlobUnknown)
}
