package local_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/mem"
	"github.com/weir-registry/weir/store/s3"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// place is where a store keeps what it has, so that a test can spoil it.
type place struct {
	t    *testing.T
	dir  string
	open func() (store.Blobs, store.Records)
}

// places are a disk and a bucket.
func places(t *testing.T) map[string]func(t *testing.T) *place {
	server := s3test.Start(t)
	return map[string]func(t *testing.T) *place{
		"disk": func(t *testing.T) *place {
			p := &place{t: t, dir: t.TempDir()}
			var last *disk.Store
			closeLast := func() {
				if last == nil {
					return
				}
				if err := last.Close(); err != nil {
					t.Error(err)
				}
			}
			t.Cleanup(closeLast)
			p.open = func() (store.Blobs, store.Records) {
				closeLast()
				s, err := disk.Open(p.dir, disk.Options{})
				if err != nil {
					t.Fatal(err)
				}
				last = s
				return s.Blobs(), s.Records()
			}
			return p
		},
		"bucket": func(t *testing.T) *place {
			o := s3.Options{
				Bucket: server.Bucket(t), Endpoint: server.URL, PathStyle: true,
				AccessKeyID: s3test.AccessKey, SecretAccessKey: func() (string, error) { return s3test.SecretKey, nil }, Spool: t.TempDir(),
			}
			p := &place{t: t, dir: filepath.Join(server.Dir, o.Bucket)}
			p.open = func() (store.Blobs, store.Records) {
				s, err := s3.Open(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				return s.Blobs(), s.Records()
			}
			return p
		},
	}
}

// registry opens the registry anew, as the next process does.
func (p *place) registry() *local.Registry {
	p.t.Helper()
	blobs, records := p.open()
	reg, err := local.New(blobs, records, local.Options{Delete: true, Sole: true, Grace: time.Hour})
	if err != nil {
		p.t.Fatal(err)
	}
	return reg
}

// files gives the files whose names contain one of the parts.
func (p *place) files(parts ...string) []string {
	p.t.Helper()
	var found []string
	err := filepath.WalkDir(p.dir, func(name string, d fs.DirEntry, err error) error {
		for _, part := range parts {
			if err == nil && d.Type().IsRegular() && strings.Contains(strings.TrimPrefix(name, p.dir), part) && !strings.Contains(name, "/quarantine/") && !strings.Contains(name, ".sgwtmp") {
				found = append(found, name)
				break
			}
		}
		return err
	})
	if err != nil || len(found) == 0 {
		p.t.Fatalf("no file with %v, %v", parts, err)
	}
	return found
}

// content gives the file with the bytes of a blob.
func (p *place) content(want []byte) string {
	p.t.Helper()
	for _, name := range p.files("/blobs/", "/data/") {
		if got, err := os.ReadFile(name); err == nil && bytes.Equal(got, want) {
			return name
		}
	}
	p.t.Fatal("no file has the blob")
	return ""
}

// spoilings are what may become of a file.
var spoilings = map[string]func(t *testing.T, name string){
	"a bit": func(t *testing.T, name string) {
		data, err := os.ReadFile(name)
		if err == nil {
			data[len(data)/3] ^= 4
			err = os.WriteFile(name, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	},
	"its end": func(t *testing.T, name string) {
		fi, err := os.Stat(name)
		if err == nil {
			err = os.Truncate(name, fi.Size()-fi.Size()/3)
		}
		if err != nil {
			t.Fatal(err)
		}
	},
	"all of it": func(t *testing.T, name string) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	},
}

// What is damaged where it is stored is never given whole, whatever its size and whichever
// bytes are asked for; it is unknown then, and good again when it is pushed.
func TestDamagedBlobs(t *testing.T) {
	for at, place := range places(t) {
		for what, spoil := range spoilings {
			for size, n := range map[string]int{"small": 20_000, "large": 300_000, "of one byte more than is read at once": 32<<10 + 1} {
				t.Run(at+"/"+what+" of a "+size+" blob", func(t *testing.T) {
					p := place(t)
					reg, a, content := p.registry(), origintest.Repo(t, "a"), origintest.Bytes(1, n)
					for _, rng := range []store.Range{{}, {Off: int64(n) / 2}, {Off: -100}} {
						d := origintest.PushBlob(t, reg, "a", content)
						if got := origintest.ReadBlob(t, reg, "a", d); !bytes.Equal(got, content) {
							t.Fatal("it is not read back")
						}
						spoil(t, p.content(content))
						reg = p.registry()
						b, err := reg.Blob(t.Context(), a, d, rng)
						var got []byte
						if err == nil {
							got, err = io.ReadAll(b.Body)
							_ = b.Body.Close()
						}
						if err == nil || len(got) > 0 && int64(len(got)) == b.Length {
							t.Fatalf("%+v: %d bytes, %v", rng, len(got), err)
						}
						if _, err := reg.Blob(t.Context(), a, d, rng); !origin.Unknown(err) {
							t.Errorf("%+v: when it was found: %v", rng, err)
						}
						if _, err := reg.Stat(t.Context(), a, d); !origin.Unknown(err) {
							t.Errorf("%+v: asked for when it was found: %v", rng, err)
						}
					}
					if d := origintest.PushBlob(t, reg, "a", content); !bytes.Equal(origintest.ReadBlob(t, reg, "a", d), content) {
						t.Error("it is not good again")
					}
				})
			}
		}
	}
}

// counting counts how often a blob is opened whole.
type counting struct {
	*mem.Blobs
	mu    sync.Mutex
	whole int
	bad   bool          // a byte is another from now on
	hold  chan struct{} // until it is closed nothing of it is read
}

func (c *counting) Open(ctx context.Context, d digest.Digest, r store.Range) (store.Blob, error) {
	b, err := c.Blobs.Open(ctx, d, r)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && b.Length == b.Size {
		c.whole++
		b.Body = &held{b.Body, c.hold, c.bad}
	}
	return b, err
}

type held struct {
	io.ReadCloser
	until chan struct{}
	bad   bool
}

func (h *held) Read(p []byte) (int, error) {
	if h.until != nil {
		<-h.until
	}
	n, err := h.ReadCloser.Read(p)
	if h.bad && n > 0 {
		p[0] ^= 1
	}
	return n, err
}

// All who read a blob for the first time wait for one reading of it, none of them for
// another one of them; and nobody for another day.
func TestVerdictIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := &counting{Blobs: mem.NewBlobs()}
		reg, err := local.New(blobs, mem.NewRecords(), local.Options{})
		if err != nil {
			t.Fatal(err)
		}
		content := origintest.Bytes(1, 200_000)
		d, a := origintest.PushBlob(t, reg, "a", content), origintest.Repo(t, "a")
		tail := func() error {
			b, err := reg.Blob(t.Context(), a, d, store.Range{Off: -150_000})
			if err != nil {
				return err
			}
			got, err := io.ReadAll(b.Body)
			if err = errors.Join(err, b.Body.Close()); err == nil && !bytes.Equal(got, content[50_000:]) {
				err = errors.New("other bytes")
			}
			return err
		}
		blobs.hold = make(chan struct{})
		left, err := reg.Blob(t.Context(), a, d, store.Range{Off: -150_000})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := tail(); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		// What was read so far is not withheld, and who leaves ends nothing for others.
		if n, err := io.ReadFull(left.Body, make([]byte, 150_000-64<<10)); err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if err := left.Body.Close(); err != nil {
			t.Error(err)
		}
		close(blobs.hold)
		wg.Wait()
		for range 3 {
			if err := tail(); err != nil {
				t.Error(err)
			}
		}
		if blobs.whole != 1 {
			t.Errorf("it is read whole %d times", blobs.whole)
		}
		blobs.bad = true // as a disk does, which tells nobody
		if err := tail(); err != nil {
			t.Errorf("within a day: %v", err)
		}
		time.Sleep(25 * time.Hour)
		if err := tail(); !errors.Is(err, origin.ErrDamaged) {
			t.Errorf("after a day: %v", err)
		}
		if err := tail(); !origin.Unknown(err) {
			t.Errorf("then: %v", err)
		}
	})
}

// A reading that nobody waits for any more ends, and the next one begins anew.
func TestVerdictLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := &counting{Blobs: mem.NewBlobs(), hold: make(chan struct{})}
		reg, err := local.New(blobs, mem.NewRecords(), local.Options{})
		if err != nil {
			t.Fatal(err)
		}
		d, a := origintest.PushBlob(t, reg, "a", origintest.Bytes(1, 200_000)), origintest.Repo(t, "a")
		for range 2 {
			b, err := reg.Blob(t.Context(), a, d, store.Range{Off: -10})
			if err == nil {
				err = b.Body.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		b, err := reg.Blob(ctx, a, d, store.Range{Off: -10})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := b.Body.Read(make([]byte, 10)); !errors.Is(err, context.Canceled) {
			t.Errorf("whose reader is gone: %v", err)
		}
		close(blobs.hold)
		synctest.Wait()
		if err := b.Body.Close(); err != nil {
			t.Error(err)
		}
		if blobs.whole != 3 {
			t.Errorf("%d readings", blobs.whole)
		}
	})
}
