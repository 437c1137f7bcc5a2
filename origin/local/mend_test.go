package local_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
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
