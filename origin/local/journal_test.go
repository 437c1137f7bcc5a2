package local_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// diary is an origin.Journal that numbers its entries.
type diary struct {
	n       int
	written []string // what it was told of
}

func (d *diary) Pushed(_ context.Context, c origin.Change) origin.Entry {
	return d.entry("push", c)
}

func (d *diary) Deleted(_ context.Context, c origin.Change) (before, after origin.Entry) {
	before = d.entry("before", c)
	after = d.entry("delete", c)
	after.Writes[0].Key = before.Writes[0].Key
	before.Written = nil
	return before, after
}

func (d *diary) entry(what string, c origin.Change) origin.Entry {
	d.n++
	text := strings.TrimSpace(what + " " + c.Repo.String() + " " + c.Tag)
	return origin.Entry{
		Writes:  []store.Write{{Key: fmt.Sprintf("diary/%03d", d.n), Data: []byte(text)}},
		Written: func() { d.written = append(d.written, text) },
	}
}

// kept is what the diary has in the store.
func kept(t *testing.T, records store.Records) string {
	t.Helper()
	var all []string
	for e, err := range records.List(t.Context(), "diary", "") {
		if err != nil {
			t.Fatal(err)
		}
		rec, err := records.Get(t.Context(), e.Key)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(rec.Data))
	}
	return strings.Join(all, ", ")
}

// failing fails deletions below r.
type failing struct {
	*mem.Records
	err error
}

func (f *failing) Delete(ctx context.Context, key string, if_ store.Condition) error {
	if f.err != nil && strings.HasPrefix(key, "r/") {
		return f.err
	}
	return f.Records.Delete(ctx, key, if_)
}

// hasty has whoever deletes something below r gone by then.
type hasty struct {
	*mem.Records
	leave func()
	err   error // nil: it is deleted
}

func (h *hasty) Delete(ctx context.Context, key string, if_ store.Condition) error {
	if !strings.HasPrefix(key, "r/") {
		return h.Records.Delete(ctx, key, if_)
	}
	h.leave()
	if h.err != nil {
		return h.err
	}
	return h.Records.Delete(context.WithoutCancel(ctx), key, if_)
}

// batches notes what is written together.
type batches struct {
	*mem.Records
	keys [][]string
}

func (b *batches) PutAll(ctx context.Context, writes []store.Write) error {
	var keys []string
	for _, w := range writes {
		keys = append(keys, w.Key)
	}
	b.keys = append(b.keys, keys)
	return b.Records.PutAll(ctx, writes)
}

// pushedImage pushes what an image needs, and gives its manifest.
func pushedImage(t *testing.T, reg origin.Registry) origin.Manifest {
	t.Helper()
	image := origintest.Image([]byte("{}"), []byte("layer"))
	for _, b := range [][]byte{[]byte("{}"), []byte("layer")} {
		origintest.PushBlob(t, reg, "a", b)
	}
	return image.Manifest
}

func TestJournal(t *testing.T) {
	records, d := &failing{Records: mem.NewRecords()}, &diary{}
	reg, err := local.New(mem.NewBlobs(), records, local.Options{Delete: true, Journal: d})
	if err != nil {
		t.Fatal(err)
	}
	m := pushedImage(t, reg)
	want := func(what, in, told string) {
		t.Helper()
		if got := kept(t, records); got != in {
			t.Errorf("%s: %q is written down, want %q", what, got, in)
		}
		if got := strings.Join(d.written, ", "); got != told {
			t.Errorf("%s: told of %q, want %q", what, got, told)
		}
	}
	desc := origintest.PushManifest(t, reg, "a", m, "1", "2")
	want("a push with two tags", "push a 1, push a 2", "push a 1, push a 2")
	origintest.PushManifest(t, reg, "a", m)
	origintest.PushManifest(t, reg, "a", m, "1")
	want("the same again", "push a 1, push a 2, push a, push a 1", "push a 1, push a 2, push a, push a 1")

	sofar := kept(t, records)
	repo := origintest.Repo(t, "a")
	err = reg.DeleteManifest(t.Context(), repo, origintest.Ref(t, "none"))
	wantError(t, "a tag that is not there", err, origin.ErrManifestUnknown)
	want("nothing was deleted", sofar, sofar)
	records.err = errors.New("the disk is away")
	if err := reg.DeleteManifest(t.Context(), repo, origintest.Ref(t, "1")); err == nil {
		t.Error("deleted on a disk that is away")
	}
	want("nobody can know", sofar+", before a 1", sofar)
	records.err = nil
	for _, ref := range []origin.Ref{origintest.Ref(t, "1"), origin.ByDigest(desc.Digest)} {
		if err := reg.DeleteManifest(t.Context(), repo, ref); err != nil {
			t.Fatal(err)
		}
	}
	want("deletions", sofar+", before a 1, delete a 1, delete a", sofar+", delete a 1, delete a")
}

// A deletion is told though its client has gone before that is written down, and what was not
// deleted is taken back.
func TestJournalOfHasty(t *testing.T) {
	for _, c := range []struct {
		err, want error
		kept      string
	}{
		{nil, nil, "push a 1, delete a 1"},
		{store.ErrConflict, origin.ErrInUse, "push a 1"},
	} {
		records, d := &hasty{Records: mem.NewRecords(), err: c.err}, &diary{}
		reg, err := local.New(mem.NewBlobs(), records, local.Options{Delete: true, Journal: d})
		if err != nil {
			t.Fatal(err)
		}
		repo := origintest.Repo(t, "a")
		origintest.PushManifest(t, reg, "a", pushedImage(t, reg), "1")
		was, err := reg.Tagged(t.Context(), repo, "1")
		if err != nil {
			t.Fatal(err)
		}
		var ctx context.Context
		ctx, records.leave = context.WithCancel(t.Context())
		if err := reg.Untag(ctx, repo, "1", was); !errors.Is(err, c.want) {
			t.Errorf("deletion that ends in %v: %v", c.err, err)
		}
		if got := kept(t, records); got != c.kept || strings.Join(d.written, ", ") != c.kept {
			t.Errorf("deletion that ends in %v: %q is written down, told of %q", c.err, got, d.written)
		}
	}
}

// What a mirror keeps is no push, and what it drops is no deletion.
func TestJournalOfMirror(t *testing.T) {
	records, d := mem.NewRecords(), &diary{}
	reg, err := local.New(mem.NewBlobs(), records, local.Options{Delete: true, Journal: d})
	if err != nil {
		t.Fatal(err)
	}
	repo := origintest.Repo(t, "a")
	m := pushedImage(t, reg)
	desc, err := reg.Push(t.Context(), repo, m, origin.PushOptions{Sparse: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.DeleteManifest(t.Context(), repo, origin.ByDigest(desc.Digest)); err != nil {
		t.Fatal(err)
	}
	if got := kept(t, records); got != "" || d.n != 0 {
		t.Errorf("%q is written down", got)
	}
}

// The entry is in the commit that makes the tag, and its last.
func TestJournalIsOneCommit(t *testing.T) {
	records := &batches{Records: mem.NewRecords()}
	reg, err := local.New(mem.NewBlobs(), records, local.Options{Journal: &diary{}})
	if err != nil {
		t.Fatal(err)
	}
	m := pushedImage(t, reg)
	records.keys = nil
	origintest.PushManifest(t, reg, "a", m, "1")
	if len(records.keys) != 1 || len(records.keys[0]) != 3 {
		t.Fatalf("written together: %q", records.keys)
	}
	if last := records.keys[0][1:]; !slices.Equal(last, []string{"r/a/_t/1", "diary/001"}) {
		t.Errorf("last come %q", last)
	}
}

// twofold is a diary in two places.
type twofold struct{ *diary }

func (d twofold) Pushed(ctx context.Context, c origin.Change) origin.Entry {
	return d.twice(d.diary.Pushed(ctx, c))
}

func (d twofold) Deleted(ctx context.Context, c origin.Change) (before, after origin.Entry) {
	before, after = d.diary.Deleted(ctx, c)
	before.Written = func() { d.written = append(d.written, "before") }
	return d.twice(before), d.twice(after)
}

func (d twofold) twice(e origin.Entry) origin.Entry {
	other := e.Writes[0]
	other.Key = "other/" + other.Key
	e.Writes = append(e.Writes, other)
	return e
}

// narrow has no room for some records.
type narrow struct {
	store.Records
	prefix string
}

func (n *narrow) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	if strings.HasPrefix(key, n.prefix) {
		return "", syscall.ENOSPC
	}
	return n.Records.Put(ctx, key, data, if_)
}

// Of two who wait for an event one is told of it though there was no room to write it down for
// the other.
func TestJournalOfTwo(t *testing.T) {
	for _, prefix := range []string{"diary/", "other/"} {
		records, d := &narrow{Records: mem.NewRecords(), prefix: prefix}, &diary{}
		reg, err := local.New(mem.NewBlobs(), records, local.Options{Delete: true, Journal: twofold{d}})
		if err != nil {
			t.Fatal(err)
		}
		repo, tag := origintest.Repo(t, "a"), origintest.Ref(t, "1")
		_, err = reg.Push(t.Context(), repo, pushedImage(t, reg), origin.PushOptions{Tags: []origin.Ref{tag}})
		wantError(t, "push", err, syscall.ENOSPC)
		wantError(t, "deletion", reg.DeleteManifest(t.Context(), repo, tag), syscall.ENOSPC)
		if _, err := records.Get(t.Context(), "other/diary/002"); prefix == "diary/" && err != nil {
			t.Errorf("no room for the first: of the deletion, for the second: %v", err)
		}
		if got := strings.Join(d.written, ", "); got != "push a 1, before, delete a 1" {
			t.Errorf("no room for %s: told of %q", prefix, got)
		}
	}
}
