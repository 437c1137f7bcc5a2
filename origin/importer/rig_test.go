package importer_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/importer"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

const largest = 1 << 20 // bytes of a manifest

// storage is that of a Distribution, as it writes it.
type storage struct{ fstest.MapFS }

func newStorage() storage { return storage{fstest.MapFS{}} }

func (s storage) file(content []byte, elem ...string) {
	s.MapFS[path.Join("docker/registry/v2", path.Join(elem...))] = &fstest.MapFile{Data: content, Mode: 0o644}
}

func dataOf(d digest.Digest) string {
	return path.Join("blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded(), "data")
}

func linkOf(repo, kind string, d digest.Digest) string {
	return path.Join("repositories", repo, kind, d.Algorithm().String(), d.Encoded(), "link")
}

func (s storage) blob(repo string, d digest.Digest, b []byte) {
	s.file(b, dataOf(d))
	s.file([]byte(d), linkOf(repo, "_layers", d))
}

func (s storage) manifest(repo string, m origin.Manifest) {
	s.file(m.Bytes, dataOf(m.Digest))
	s.file([]byte(m.Digest), linkOf(repo, "_manifests/revisions", m.Digest))
}

func (s storage) tag(repo, tag string, d digest.Digest) {
	s.file([]byte(d), "repositories", repo, "_manifests/tags", tag, "current/link")
	s.file([]byte(d), "repositories", repo, "_manifests/tags", tag, "index", d.Algorithm().String(), d.Encoded(), "link")
}

// push is a push of an image, with its children, to the storage.
func (s storage) push(repo string, x origintest.Tree, tags ...string) {
	for _, c := range x.Children {
		s.push(repo, c)
	}
	for _, b := range x.Blobs {
		s.blob(repo, b.Digest, b.Bytes)
	}
	s.manifest(repo, x.Manifest)
	for _, t := range tags {
		s.tag(repo, t, x.Digest())
	}
}

// write makes a directory of the storage.
func write(t *testing.T, files fstest.MapFS) string {
	t.Helper()
	dir := t.TempDir()
	for name, f := range files {
		full := filepath.Join(dir, filepath.FromSlash(name))
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		must(t, os.WriteFile(full, f.Data, 0o644))
	}
	return dir
}

func newRegistry(t testing.TB) *local.Registry {
	t.Helper()
	return newRegistryOver(t, mem.NewBlobs(), mem.NewRecords())
}

func newRegistryOver(t testing.TB, blobs store.Blobs, records store.Records) *local.Registry {
	t.Helper()
	r, err := local.New(blobs, records, local.Options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// shown keeps what is shown.
type shown struct {
	mu     sync.Mutex
	done   []string
	moved  []string
	failed []string
	read   int // bytes
	bars   int // that have not ended
}

func (s *shown) lock() func() {
	s.mu.Lock()
	return s.mu.Unlock
}

func (s *shown) Blob(string, v1.Descriptor) importer.Bar {
	defer s.lock()()
	s.bars++
	return (*shownBar)(s)
}

func (s *shown) Done(of string, d digest.Digest, _ importer.Summary) {
	defer s.lock()()
	s.done = append(s.done, of+" "+d.String())
}

func (s *shown) Moved(of string, from, to digest.Digest) {
	defer s.lock()()
	s.moved = append(s.moved, fmt.Sprintf("%s %s %s", of, from, to))
}

func (s *shown) Failed(of string, err error) {
	defer s.lock()()
	s.failed = append(s.failed, of+": "+err.Error())
}

type shownBar shown

func (b *shownBar) Add(n int) {
	defer (*shown)(b).lock()()
	b.read += n
}

func (b *shownBar) End(error) {
	defer (*shown)(b).lock()()
	b.bars--
}

// distribute imports a storage into a registry under the same names.
func distribute(t *testing.T, dir fs.FS, r importer.Registry, l store.Linker) (importer.Summary, *shown) {
	t.Helper()
	show := &shown{}
	sum, err := importer.Distribution(t.Context(), dir, r, same, importer.Options{Linker: l, MaxManifestSize: largest, Show: show})
	must(t, err)
	if show.bars != 0 {
		t.Errorf("%d bars have not ended", show.bars)
	}
	if sum.Failed != len(show.failed) {
		t.Errorf("%d failed, and shown were %q", sum.Failed, show.failed)
	}
	slices.Sort(show.failed)
	return sum, show
}

func same(r origin.Repo) (origin.Repo, error) { return r, nil }

// wantFailed wants that exactly these were shown to fail: for each what it was, and words
// of why.
func wantFailed(t *testing.T, show *shown, want map[string]string) {
	t.Helper()
	left := maps.Clone(want)
	for _, f := range show.failed {
		found := ""
		for of, why := range left {
			if strings.HasPrefix(f, of+": ") && strings.Contains(f, why) {
				found = of
			}
		}
		if found == "" {
			t.Errorf("failed, and should not: %s", f)
		}
		delete(left, found)
	}
	for of, why := range left {
		t.Errorf("did not fail: %s: %s", of, why)
	}
}

// wantImage wants that an image is there with all that it names.
func wantImage(t *testing.T, r origin.Reader, repo, tag string, x origintest.Tree) {
	t.Helper()
	for _, ref := range []string{tag, x.Digest().String()} {
		if ref != "" {
			origintest.CheckManifest(t, r, repo, ref, x.Manifest)
		}
	}
	for _, b := range x.Blobs {
		origintest.CheckBlob(t, r, repo, b.Digest, b.Bytes)
	}
	for _, c := range x.Children {
		wantImage(t, r, repo, "", c)
	}
}

// wantNoManifest wants that a repository has no such manifest.
func wantNoManifest(t *testing.T, r origin.Reader, repo, ref string) {
	t.Helper()
	if d, err := r.Resolve(t.Context(), origintest.Repo(t, repo), origintest.Ref(t, ref)); !origin.Unknown(err) {
		t.Errorf("%s of %s: %v, %v", ref, repo, d.Digest, err)
	}
}

// snapshot describes all that is in a directory: names, modes, times and contents.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		var data []byte
		if fi.Mode().IsRegular() {
			if data, err = os.ReadFile(name); err != nil {
				return err
			}
		}
		fmt.Fprintf(&b, "%s %v %v %s\n", name, fi.Mode(), fi.ModTime(), digest.FromBytes(data))
		return nil
	}))
	return b.String()
}

// forgetful is a registry whose blobs break when they are read.
type forgetful struct {
	origin.Reader
	bad digest.Digest
}

func (f forgetful) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	b, err := f.Reader.Blob(ctx, repo, d, r)
	if d == f.bad && err == nil {
		data, failed := io.ReadAll(b.Body)
		err = errors.Join(failed, b.Body.Close())
		data[0] ^= 1
		b.Body = io.NopCloser(bytes.NewReader(data))
	}
	return b, err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sorted[T cmp.Ordered](list []T) []T {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}
