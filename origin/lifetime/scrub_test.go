package lifetime_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/mem"
)

// flip changes one bit of a file.
func flip(t *testing.T, name string, r *rand.Rand) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	from := 0
	if strings.Contains(name, "/_m/") {
		from = bytes.IndexByte(data, '\n') // what stands before is no content
		from += 1 + bytes.IndexByte(data[from+1:], '\n')
	}
	bit := from*8 + r.IntN((len(data)-from)*8)
	data[bit/8] ^= 1 << (bit % 8)
	info, err := os.Stat(name)
	if err == nil {
		err = errors.Join(os.WriteFile(name, data, 0o600), os.Chtimes(name, info.ModTime(), info.ModTime()))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// One bit is flipped in each of 200 files: all are found, and nothing else; what is small
// is never given wrong before (trust K-7).
func TestScrubBitRot(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	s, err := disk.Open(dir, disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, blobs: s.Blobs(), records: s.Records()}
	r.reg = open(t, r.blobs, r.records, true)
	var trees []origintest.Tree
	for i := range 80 {
		tree := origintest.Image(origintest.Bytes(uint64(i), 500), origintest.Bytes(uint64(1000+i), 100), origintest.Bytes(uint64(2000+i), 70_000))
		tree.Push(t, r.reg, "a", "t"+strconv.Itoa(i))
		trees = append(trees, tree)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = disk.Open(dir, disk.Options{}); err != nil { // what was in logs is in files
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var files []string
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && (strings.Contains(name, "/blobs/") || strings.Contains(name, "/_m/")) {
			files = append(files, name)
		}
		return err
	})
	if err != nil || len(files) < 300 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	random.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	var flipped []string
	for _, name := range files[:200] {
		flip(t, name, random)
		flipped = append(flipped, strings.TrimSuffix(filepath.Base(name), "%"))
	}
	r.blobs, r.records = s.Blobs(), s.Records()
	r.reg = open(t, r.blobs, r.records, true)
	wrong := 0
	for _, tree := range trees[:40] { // some are pulled before, and some are not
		for _, b := range tree.Blobs[:2] {
			if err := oracletest.ReadBlob(t.Context(), r.reg, repo(t, "a"), b.Digest); err != nil && !origin.Unknown(err) {
				t.Errorf("a small blob: %v", err)
			} else if err != nil {
				wrong++
			}
		}
	}
	scrub := lifetime.NewScrubber(r.reg, lifetime.ScrubOptions{})
	rep, err := scrub.Run(t.Context(), false, false)
	if !errors.Is(err, lifetime.ErrCorrupt) {
		t.Errorf("%v", err)
	}
	if wrong == 0 || len(rep.Corrupt)+wrong != 200 {
		t.Errorf("%d are found, and %d by those who pulled", len(rep.Corrupt), wrong)
	}
	for _, c := range rep.Corrupt {
		if !slices.ContainsFunc(flipped, func(name string) bool {
			return strings.HasPrefix(c.Digest.Encoded(), name) || strings.Contains(name, c.Digest.Encoded())
		}) {
			t.Errorf("%s is well", c.Digest)
		}
		if !slices.Equal(c.Repositories, []string{"a"}) {
			t.Errorf("%s is in %v", c.Digest, c.Repositories)
		}
	}
	// What was quarantined is unknown until it is pushed again.
	for _, tree := range trees {
		for _, b := range tree.Blobs {
			if err := oracletest.ReadBlob(t.Context(), r.reg, repo(t, "a"), b.Digest); err != nil && !origin.Unknown(err) {
				t.Error(err)
			}
		}
		tree.Push(t, r.reg, "a")
	}
	if rep, err := scrub.Run(t.Context(), false, false); err != nil || len(rep.Corrupt) != 0 {
		t.Errorf("what was pushed again is corrupt: %+v, %v", rep, err)
	}
	for _, tree := range trees {
		r.pull("a", tree)
	}
	if kept, err := os.ReadDir(filepath.Join(dir, "quarantine")); err != nil || len(kept) == 0 {
		t.Errorf("%d files in quarantine, %v", len(kept), err)
	}
}

// rotten is a store some of whose blobs are corrupt.
type rotten struct {
	*mem.Blobs
	bad  map[digest.Digest]bool
	read []digest.Digest
	seen func()
}

func (b *rotten) Open(ctx context.Context, d digest.Digest, r store.Range) (store.Blob, error) {
	blob, err := b.Blobs.Open(ctx, d, r)
	b.read = append(b.read, d)
	if err == nil && b.bad[d] {
		blob.Body = rot{blob.Body}
	}
	if b.seen != nil {
		b.seen()
	}
	return blob, err
}

func (b *rotten) Delete(ctx context.Context, d digest.Digest) error {
	delete(b.bad, d)
	return b.Blobs.Delete(ctx, d)
}

type rot struct {
	inner interface {
		Read([]byte) (int, error)
		Close() error
	}
}

func (r rot) Read(p []byte) (int, error) {
	n, err := r.inner.Read(p)
	if n > 0 {
		p[0] ^= 1
	}
	return n, err
}

func (r rot) Close() error { return r.inner.Close() }

// What a mirror has is fetched anew, and what was pushed is not.
func TestScrubRepair(t *testing.T) {
	ctx := t.Context()
	blobs := &rotten{Blobs: mem.NewBlobs(), bad: map[digest.Digest]bool{}}
	reg := open(t, blobs, mem.NewRecords(), true)
	data := origintest.Bytes(1, 50_000)
	put := func(w origin.Writer, name string, b []byte) digest.Digest { return origintest.PushBlob(t, w, name, b) }
	cached := put(reg.Mirrored(), "docker.io/x", data)
	pushed := put(reg, "mine", origintest.Bytes(2, 50_000))
	blobs.bad[cached], blobs.bad[pushed] = true, true
	scrub := lifetime.NewScrubber(reg, lifetime.ScrubOptions{
		Refetch: func(_ context.Context, to origin.Repo, d digest.Digest) error {
			if to.String() != "docker.io/x" || d != cached {
				t.Errorf("%s of %s is fetched", d, to)
			}
			put(reg.Mirrored(), to.String(), data)
			return nil
		},
	})
	rep, err := scrub.Run(ctx, true, false)
	if !errors.Is(err, lifetime.ErrCorrupt) || len(rep.Corrupt) != 2 || !slices.Equal(rep.Repaired, []digest.Digest{cached}) {
		t.Errorf("%+v, %v", rep, err)
	}
	if rep, err := scrub.Run(ctx, true, false); err != nil || len(rep.Corrupt) != 0 {
		t.Errorf("%+v, %v", rep, err)
	}
}

// A blob that comes anew while the old one is read stays.
func TestScrubLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs := &rotten{Blobs: mem.NewBlobs(), bad: map[digest.Digest]bool{}}
		reg := open(t, blobs, mem.NewRecords(), true)
		data := origintest.Bytes(1, 50_000)
		d := origintest.PushBlob(t, reg, "a", data)
		time.Sleep(time.Second)
		blobs.bad[d] = true
		reads := 0
		blobs.seen = func() {
			if reads++; reads != 2 {
				return
			}
			// It was wrong twice; now it is pushed again.
			if err := blobs.Delete(t.Context(), d); err != nil {
				t.Error(err)
			}
			origintest.PushBlob(t, reg, "a", data)
		}
		rep, err := lifetime.NewScrubber(reg, lifetime.ScrubOptions{}).Run(t.Context(), true, false)
		if err != nil || len(rep.Corrupt) != 0 {
			t.Errorf("%+v, %v", rep, err)
		}
		if _, err := blobs.Stat(t.Context(), d); err != nil {
			t.Error(err)
		}
	})
}

// It reads no faster than it may, and a scheduled run goes on where it was cut off.
func TestScrubPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blobs, records := &rotten{Blobs: mem.NewBlobs()}, mem.NewRecords()
		reg := open(t, blobs, records, true)
		for i := range 10 {
			origintest.PushBlob(t, reg, "a", origintest.Bytes(uint64(i), 60_000))
		}
		scrub := lifetime.NewScrubber(reg, lifetime.ScrubOptions{Rate: 1000, Records: records})
		cut, cancel := context.WithTimeout(t.Context(), 350*time.Second)
		defer cancel()
		begun := time.Now()
		if _, err := scrub.Run(cut, false, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if took := time.Since(begun); took < 349*time.Second || took > 351*time.Second {
			t.Errorf("it was cut after %v", took)
		}
		first := slices.Clone(blobs.read)
		blobs.read = nil
		if _, err := scrub.Run(t.Context(), false, true); err != nil {
			t.Error(err)
		}
		if len(first) != 6 || len(blobs.read) < 5 || len(blobs.read) > 6 || slices.Contains(blobs.read, first[0]) {
			t.Errorf("%d are read, and then %d", len(first), len(blobs.read))
		}
		blobs.read = nil
		if _, err := scrub.Run(t.Context(), false, true); err != nil || len(blobs.read) != 10 {
			t.Errorf("the next run reads %d: %v", len(blobs.read), err)
		}
	})
}

// How far it has come may be damaged, too: it begins again, and is not kept from looking for
// damage for ever.
func TestScrubAfterDamagedCursor(t *testing.T) {
	blobs, records := &rotten{Blobs: mem.NewBlobs()}, &tampered{Records: mem.NewRecords()}
	reg := open(t, blobs, records.Records, true)
	origintest.PushBlob(t, reg, "a", []byte("x"))
	if _, err := records.Put(t.Context(), "scrub/cursor", []byte("ff"), store.Always()); err != nil {
		t.Fatal(err)
	}
	records.get = func(_ string, rec store.Record) (store.Record, error) { return rec, store.ErrDamaged }
	scrub := lifetime.NewScrubber(reg, lifetime.ScrubOptions{Records: records})
	if rep, err := scrub.Run(t.Context(), false, true); err != nil || len(blobs.read) != 1 {
		t.Errorf("%d are read: %+v, %v", len(blobs.read), rep, err)
	}
}

// What can be derived is written anew.
func TestScrubMends(t *testing.T) {
	records := mem.NewRecords()
	reg := open(t, mem.NewBlobs(), records, true)
	r := &rig{t: t, reg: reg, records: records}
	one := image(1)
	r.push("a", one, "first")
	r.manifest("a", one, "later")
	sig := origintest.Artifact(one.Manifest.Descriptor.Descriptor, "application/sig", nil, []byte("s"))
	r.push("a", sig)
	for e := range records.List(t.Context(), "r/a", "") {
		if strings.HasPrefix(e.Key, "r/a/_n/") || strings.HasPrefix(e.Key, "r/a/_r/") {
			if err := records.Delete(t.Context(), e.Key, store.Always()); err != nil {
				t.Fatal(err)
			}
		}
	}
	reg = open(t, mem.NewBlobs(), records, true)
	rep, err := lifetime.NewScrubber(reg, lifetime.ScrubOptions{}).Run(t.Context(), false, false)
	if err != nil || rep.Mended != 2 {
		t.Errorf("%+v, %v", rep, err)
	}
	l, err := reg.Referrers(t.Context(), repo(t, "a"), one.Digest(), "", origin.Page{N: 10})
	if err != nil || len(l.Items) != 1 || l.Items[0].ArtifactType != "application/sig" {
		t.Errorf("%+v, %v", l, err)
	}
	if err := reg.DeleteManifest(t.Context(), repo(t, "a"), origin.ByDigest(one.Digest())); err != nil {
		t.Error(err)
	}
	if l, err := reg.Tags(t.Context(), repo(t, "a"), origin.Page{N: 10}); err != nil || len(l.Items) != 0 {
		t.Errorf("a tag outlives its manifest: %v, %v", l.Items, err)
	}
}
