package local_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
)

// late is records in which somebody else is faster: before a record whose key contains key is
// written, meanwhile is called, once.
type late struct {
	*mem.Records
	key       string
	meanwhile func()
}

func (l *late) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	if do := l.meanwhile; do != nil && strings.Contains(key, l.key) {
		l.meanwhile = nil
		do()
	}
	return l.Records.Put(ctx, key, data, if_)
}

// damaged is a registry with an image, one of whose records is damaged.
func damaged(t *testing.T, key func(img origintest.Tree) string) (*local.Registry, *late, origintest.Tree, *local.Registry) {
	t.Helper()
	blobs, records := mem.NewBlobs(), &late{Records: mem.NewRecords()}
	open := func(r store.Records) *local.Registry {
		reg, err := local.New(blobs, r, local.Options{Delete: true})
		if err != nil {
			t.Fatal(err)
		}
		return reg
	}
	img, other := origintest.Image([]byte("{}")), open(records.Records)
	img.Push(t, other, "a", "x")
	if _, err := records.Records.Put(t.Context(), key(img), []byte("{"), store.Always()); err != nil {
		t.Fatal(err)
	}
	return open(records), records, img, open(records.Records)
}

func tagKeyOf(origintest.Tree) string { return "r/a/_t/x" }

// A damaged tag names again what knows of it.
func TestMendTag(t *testing.T) {
	reg, _, img, _ := damaged(t, tagKeyOf)
	it := origin.Item{Repo: origintest.Repo(t, "a"), Kind: origin.KindTag, Tag: "x"}
	if mended, err := reg.Mend(t.Context(), it); !mended || err != nil {
		t.Error(mended, err)
	}
	if d, err := reg.Resolve(t.Context(), it.Repo, origintest.Ref(t, "x")); err != nil || d.Digest != img.Digest() {
		t.Error(d.Digest, err)
	}
}

// What another process pushes to a damaged tag while it is mended stays.
func TestMendTagMeetsPush(t *testing.T) {
	reg, records, _, other := damaged(t, tagKeyOf)
	records.key = "/_t/x"
	pushed := origintest.Image([]byte("{ }"))
	records.meanwhile = func() { pushed.Push(t, other, "a", "x") }
	it := origin.Item{Repo: origintest.Repo(t, "a"), Kind: origin.KindTag, Tag: "x"}
	if mended, err := reg.Mend(t.Context(), it); mended || err != nil {
		t.Error(mended, err)
	}
	if d, err := other.Resolve(t.Context(), it.Repo, origintest.Ref(t, "x")); err != nil || d.Digest != pushed.Digest() {
		t.Error(d.Digest, err)
	}
}

// A tag is not written back whose manifest another process deletes meanwhile.
func TestMendTagMeetsDeletion(t *testing.T) {
	reg, records, img, other := damaged(t, tagKeyOf)
	records.key = "/_t/x"
	it := origin.Item{Repo: origintest.Repo(t, "a"), Kind: origin.KindTag, Tag: "x"}
	records.meanwhile = func() {
		if err := other.DeleteManifest(t.Context(), it.Repo, origin.ByDigest(img.Digest())); err != nil {
			t.Error(err)
		}
	}
	if mended, err := reg.Mend(t.Context(), it); mended || err != nil {
		t.Error(mended, err)
	}
	if _, err := records.Get(t.Context(), tagKeyOf(img)); !errors.Is(err, store.ErrNotFound) {
		t.Error("the tag is there: ", err)
	}
}

// Of a damaged tag it is not known that it names a manifest: that may be deleted.
func TestDeleteBesideDamagedTag(t *testing.T) {
	reg, _, img, _ := damaged(t, tagKeyOf)
	repo := origintest.Repo(t, "a")
	if err := reg.DeleteManifest(t.Context(), repo, origin.ByDigest(img.Digest())); err != nil {
		t.Error(err)
	}
	if _, err := reg.Resolve(t.Context(), repo, origin.ByDigest(img.Digest())); !errors.Is(err, origin.ErrManifestUnknown) {
		t.Error(err)
	}
}

// spoiltOnDisk is a registry over a disk, one of whose records has a checksum that is wrong;
// what it says can still be read.
func spoiltOnDisk(t *testing.T, sole bool, key func(reg *local.Registry) string) *local.Registry {
	t.Helper()
	dir := t.TempDir()
	s, err := disk.Open(dir, disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	open := func() *local.Registry {
		reg, err := local.New(s.Blobs(), s.Records(), local.Options{Delete: true, Sole: sole, Grace: leaseGrace})
		if err != nil {
			t.Fatal(err)
		}
		return reg
	}
	name := filepath.Join(dir, "records", filepath.FromSlash(key(open())))
	data, err := os.ReadFile(name)
	if err == nil {
		const checksum = 32 + 1 // behind the version
		data[checksum] ^= 1
		err = os.WriteFile(name, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return open()
}

// What its store says is damaged has no version. Where others write too nothing is written
// over it, since that may be what they have pushed meanwhile; nor is it taken for granted
// what it says of a removal.
func TestDamagedWithoutVersion(t *testing.T) {
	for _, sole := range []bool{true, false} {
		img := origintest.Image([]byte("{}"))
		reg := spoiltOnDisk(t, sole, func(reg *local.Registry) string {
			img.Push(t, reg, "a", "x")
			return "r/a/_m/" + strings.Replace(img.Digest().String(), ":", "/", 1)
		})
		mended, err := reg.Mend(t.Context(), origin.Item{Repo: origintest.Repo(t, "a"), Kind: origin.KindManifest, Digest: img.Digest()})
		if mended != sole || (err == nil) != sole || !sole && !errors.Is(err, origin.ErrDamaged) {
			t.Errorf("alone = %t: mended = %t, %v", sole, mended, err)
		}
		reg = spoiltOnDisk(t, sole, func(reg *local.Registry) string {
			img.Push(t, reg, "a", "x")
			return "r/a/_t/x"
		})
		mended, err = reg.Mend(t.Context(), origin.Item{Repo: origintest.Repo(t, "a"), Kind: origin.KindTag, Tag: "x"})
		if mended != sole || (err == nil) != sole || !sole && !errors.Is(err, origin.ErrDamaged) {
			t.Errorf("alone = %t: tag mended = %t, %v", sole, mended, err)
		}
		d := digest.FromString("condemned")
		reg = spoiltOnDisk(t, sole, func(reg *local.Registry) string {
			if err := reg.Condemn(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			return "r/_condemned/sha256/" + d.Encoded()
		})
		if err := reg.Spare(t.Context(), d); (err == nil) != sole || !sole && !errors.Is(err, origin.ErrInUse) {
			t.Errorf("alone = %t: spared: %v", sole, err)
		}
	}
}

// A manifest that came through a mirror, and that a client pushes an index of, is not one whose
// blobs were compared: that stays known, and is taken for granted where it is not.
func TestSparseStaysKnown(t *testing.T) {
	blobs, records := mem.NewBlobs(), mem.NewRecords()
	open := func() *local.Registry {
		reg, err := local.New(blobs, records, local.Options{Delete: true, Grace: leaseGrace})
		if err != nil {
			t.Fatal(err)
		}
		return reg
	}
	reg, repo := open(), origintest.Repo(t, "a")
	img := origintest.Image([]byte("{}"))
	want := func(when string, images int) {
		t.Helper()
		for p, err := range reg.Manifests(t.Context(), repo) {
			if err != nil || p.Sparse == p.Index {
				t.Errorf("%s: index = %t, sparse = %t, %v", when, p.Index, p.Sparse, err)
			}
			if !p.Index {
				images--
			}
		}
		if images != 0 {
			t.Errorf("%s: %d images are missing", when, images)
		}
	}
	if _, err := reg.Push(t.Context(), repo, img.Manifest, origin.PushOptions{Sparse: true}); err != nil {
		t.Fatal(err)
	}
	want("what is mirrored", 0)
	index := origintest.Index(img)
	origintest.PushManifest(t, reg, "a", index.Manifest, "x")
	want("an index of it", 1)
	if err := reg.Suspect(t.Context(), repo, img.Digest()); err != nil {
		t.Fatal(err)
	}
	img.Push(t, reg, "a")
	want("written anew", 1)
	whole := origintest.Image([]byte("{}"), []byte("layer"))
	whole.Push(t, reg, "a")
	key := "r/a/_m/" + strings.Replace(whole.Digest().String(), ":", "/", 1)
	if _, err := records.Put(t.Context(), key, append([]byte("{\n"), whole.Manifest.Bytes...), store.Always()); err != nil {
		t.Fatal(err)
	}
	reg = open()
	if mended, err := reg.Mend(t.Context(), origin.Item{Repo: repo, Kind: origin.KindManifest, Digest: whole.Digest()}); !mended || err != nil {
		t.Errorf("mended = %t, %v", mended, err)
	}
	want("a head that is mended", 2)
}

// pushReferrer pushes to a an image, and what refers to it; entry is its record among the referrers.
func pushReferrer(t *testing.T, reg *local.Registry) (subject, about origintest.Tree, entry string) {
	t.Helper()
	subject = origintest.Image([]byte("{}"))
	subject.Push(t, reg, "a", "x")
	about = origintest.Artifact(subject.Manifest.Descriptor.Descriptor, "application/sig", nil, []byte("about"))
	about.Push(t, reg, "a")
	path := func(d digest.Digest) string { return strings.Replace(d.String(), ":", "/", 1) }
	return subject, about, "r/a/_r/" + path(subject.Digest()) + "/" + path(about.Digest())
}

// What a push or a deletion that was killed has left among referrers is taken away, once it is
// so old that nobody is about to write the manifest.
func TestEntryLeftOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records, repo := mem.NewRecords(), origintest.Repo(t, "a")
		reg, err := local.New(mem.NewBlobs(), records, local.Options{Delete: true, Grace: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		subject, about, entry := pushReferrer(t, reg)
		item := origin.Item{Repo: repo, Kind: origin.KindReferrer, Digest: about.Digest(), Subject: subject.Digest()}
		mend := func(when string, want bool) {
			t.Helper()
			if mended, err := reg.Mend(t.Context(), item); mended != want || err != nil {
				t.Errorf("%s: mended = %t, %v", when, mended, err)
			}
		}
		time.Sleep(2 * time.Hour)
		mend("it is whole", false)
		rec, err := records.Get(t.Context(), entry)
		if err != nil {
			t.Fatal(err)
		}
		if err := reg.DeleteManifest(t.Context(), repo, origin.ByDigest(about.Digest())); err != nil {
			t.Fatal(err)
		}
		if _, err := records.Put(t.Context(), entry, rec.Data, store.Absent()); err != nil {
			t.Fatal(err)
		}
		mend("it was written just now", false)
		time.Sleep(time.Hour)
		mend("it is as old as the grace", true)
		if _, err := records.Get(t.Context(), entry); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("it is there: %v", err)
		}
		mend("it is gone", false)
		about.Push(t, reg, "a")
		mend("it was pushed again", false)
	})
}

// Whoever lists while a killed deletion has left an entry without its manifest does not see
// it; whoever pushes the manifest again has it listed, though its entry is there.
func TestEntryLeftOverIsTaken(t *testing.T) {
	for _, sole := range []bool{true, false} {
		t.Run(fmt.Sprintf("sole %t", sole), func(t *testing.T) {
			records := mem.NewRecords()
			reg, err := local.New(mem.NewBlobs(), records, local.Options{Delete: true, Sole: sole})
			if err != nil {
				t.Fatal(err)
			}
			subject, about, entry := pushReferrer(t, reg)
			rec, err := records.Get(t.Context(), entry)
			if err != nil {
				t.Fatal(err)
			}
			if err := reg.DeleteManifest(t.Context(), origintest.Repo(t, "a"), origin.ByDigest(about.Digest())); err != nil {
				t.Fatal(err)
			}
			if _, err := records.Put(t.Context(), entry, rec.Data, store.Absent()); err != nil {
				t.Fatal(err)
			}
			origintest.CheckReferrers(t, reg, "a", subject.Digest(), "", nil)
			about.Push(t, reg, "a")
			origintest.CheckReferrers(t, reg, "a", subject.Digest(), "", []origintest.Tree{about})
		})
	}
}
