package local_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
)

func (c *counted) collected(t testing.TB, sole bool) *local.Registry {
	t.Helper()
	r, err := local.New(countedBlobs{c}, countedRecords{c}, local.Options{Delete: true, Sole: sole, Grace: leaseGrace})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// listCondemned gives what is condemned.
func listCondemned(t testing.TB, reg *local.Registry) map[digest.Digest]bool {
	t.Helper()
	all := map[digest.Digest]bool{}
	for c, err := range reg.Condemned(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all[c.Digest] = true
	}
	return all
}

// Whether a blob that is pushed is condemned, and is there, memory says where nobody else
// writes.
func TestCostOfABlob(t *testing.T) {
	for _, sole := range []bool{true, false} {
		c := newCounted()
		reg := c.collected(t, sole)
		origintest.PushBlob(t, reg, "a", []byte("first"))
		got := c.of(func() { origintest.PushBlob(t, reg, "a", []byte("second")) })
		want := cost{writes: 1}
		if !sole {
			want.reads, want.stats = 1, 1
		}
		if got != want {
			t.Errorf("alone = %v: a blob costs %+v, want %+v", sole, got, want)
		}
	}
}

// Whatever memory knows: who pushes a condemned blob ends its condemnation, also one from
// before the start, and of many.
func TestWhoPushesSpares(t *testing.T) {
	for _, n := range []int{1, 1000, 1001, 3000} {
		for _, collects := range []bool{false, true} {
			t.Run(fmt.Sprint(n, collects), func(t *testing.T) {
				c := newCounted()
				reg := c.collected(t, true)
				blob := func(i int) []byte { return fmt.Append(nil, i) }
				for i := range n {
					if err := reg.Condemn(t.Context(), digest.FromBytes(blob(i))); err != nil {
						t.Fatal(err)
					}
				}
				reg = c.collected(t, true)
				if collects {
					listCondemned(t, reg)
				}
				var all sync.WaitGroup
				for i := range min(n, 50) {
					all.Go(func() { origintest.PushBlob(t, reg, "a", blob(i)) })
				}
				all.Wait()
				if got := len(listCondemned(t, reg)); got != n-min(n, 50) {
					t.Errorf("%d are condemned, of %d", got, n)
				}
				// And again: twice condemned is condemned once.
				for range 3 {
					for range 2 {
						if err := reg.Condemn(t.Context(), digest.FromBytes(blob(0))); err != nil {
							t.Fatal(err)
						}
					}
					origintest.PushBlob(t, reg, "b", blob(0))
					if listCondemned(t, reg)[digest.FromBytes(blob(0))] {
						t.Error("a blob that was pushed is condemned")
					}
				}
				if got := c.of(func() { origintest.PushBlob(t, reg, "c", []byte("other")) }); got.reads > 0 && n < 100 {
					t.Errorf("a blob beside them costs %+v", got)
				}
			})
		}
	}
}

// The record of a condemned blob is damaged, and so has no version: whether somebody has
// pushed the blob since it was read cannot be told by it, and the blob stays. The next
// collection condemns it anew.
func TestDamagedCondemnation(t *testing.T) {
	dir := t.TempDir()
	s, err := disk.Open(dir, disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	reg, err := local.New(s.Blobs(), s.Records(), local.Options{Delete: true, Sole: true, Grace: leaseGrace})
	if err != nil {
		t.Fatal(err)
	}
	d := origintest.PushBlob(t, reg, "a", []byte("content"))
	condemned := func(damage bool) origin.Condemned {
		t.Helper()
		if err := reg.Condemn(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, "records", "r", "_condemned", "sha256", d.Encoded())
		data, err := os.ReadFile(name)
		if damage && err == nil {
			data[len(data)-1] ^= 1
			err = os.WriteFile(name, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		for c, err := range reg.Condemned(t.Context()) {
			if err != nil || damage != (c.Version == "") {
				t.Fatal(c, err)
			}
			return c
		}
		t.Fatal("nothing is condemned")
		return origin.Condemned{}
	}
	c := condemned(true)
	origintest.PushBlob(t, reg, "a", []byte("content"))
	_, err = reg.Remove(t.Context(), c)
	wantError(t, "removal of what was pushed", err, origin.ErrInUse)
	if got := origintest.ReadBlob(t, reg, "a", d); string(got) != "content" {
		t.Errorf("%q is left", got)
	}
	_, err = reg.Remove(t.Context(), condemned(true))
	wantError(t, "removal by a damaged record", err, origin.ErrInUse)
	if n, err := reg.Remove(t.Context(), condemned(false)); n != 7 || err != nil {
		t.Errorf("condemned anew: %d, %v", n, err)
	}
}

// In a bucket a listing has the version of what is damaged too. What another process has made
// of the record since is not touched by who goes by that.
func TestDamagedCondemnationInABucket(t *testing.T) {
	p := places(t)["bucket"](t)
	blobs, records := p.open()
	reg, err := local.New(blobs, records, local.Options{Delete: true, Grace: leaseGrace})
	if err != nil {
		t.Fatal(err)
	}
	d := origintest.PushBlob(t, reg, "a", []byte("content"))
	key := "r/_condemned/sha256/" + d.Encoded()
	condemned := func() origin.Condemned {
		t.Helper()
		if _, err := records.Put(t.Context(), key, []byte(`{"removing":false}`), store.Always()); err != nil {
			t.Fatal(err)
		}
		name := p.files(key)[0]
		data, err := os.ReadFile(name)
		if err == nil {
			data[len(data)-1] ^= 1
			err = os.WriteFile(name, data, 0o600)
		}
		if err == nil {
			before := time.Now().Add(-2 * time.Hour) // nobody is removing it any more
			err = os.Chtimes(name, before, before)
		}
		if err != nil {
			t.Fatal(err)
		}
		for c, err := range reg.Condemned(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		t.Fatal("nothing is condemned")
		return origin.Condemned{}
	}
	c := condemned()
	const removing = `{"removing":true}`
	if _, err := records.Put(t.Context(), key, []byte(removing), store.Always()); err != nil {
		t.Fatal(err)
	}
	_, err = reg.Remove(t.Context(), c)
	wantError(t, "removal of what another one removes", err, origin.ErrInUse)
	if rec, err := records.Get(t.Context(), key); string(rec.Data) != removing || err != nil {
		t.Errorf("of the other one's removal there is %q, %v", rec.Data, err)
	}
	if n, err := reg.Remove(t.Context(), condemned()); n != 7 || err != nil {
		t.Errorf("condemned, and damaged: %d, %v", n, err)
	}
}
