package local_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

const leaseGrace = 24 * time.Hour

// A HEAD writes at most once in a tenth of the grace, also in a process that knows
// nothing; a GET never does.
func TestRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounted()
		reopen := func() *local.Registry {
			reg, err := local.New(countedBlobs{c}, countedRecords{c}, local.Options{Delete: true, Grace: leaseGrace})
			if err != nil {
				t.Fatal(err)
			}
			return reg
		}
		reg, repo := reopen(), origintest.Repo(t, "a")
		d := origintest.PushBlob(t, reg, "a", []byte("blob"))
		head := func() {
			t.Helper()
			if _, err := reg.Stat(t.Context(), repo, d); err != nil {
				t.Error(err)
			}
		}
		// Every quarter of an hour, for ten days.
		got := c.of(func() {
			for range 960 {
				time.Sleep(15 * time.Minute)
				head()
			}
		})
		if got.writes < 90 || got.writes > 100 {
			t.Errorf("960 HEADs in ten times the grace cost %+v", got)
		}
		got = c.of(func() {
			for range 100 {
				time.Sleep(leaseGrace / 5)
				if err := oracletest.ReadBlob(t.Context(), reg, repo, d); err != nil {
					t.Error(err)
				}
			}
		})
		if got.writes != 0 {
			t.Errorf("GETs cost %+v", got)
		}
		head()
		time.Sleep(time.Hour)
		reg = reopen()
		// To learn the time is a write, once for all links.
		if got := c.of(head); got.writes != 1 {
			t.Errorf("a HEAD after a start, of a link that is not old, costs %+v", got)
		}
		if got := c.of(head); got.reads+got.writes != 0 {
			t.Errorf("another one costs %+v", got)
		}
		time.Sleep(2 * time.Hour)
		if got := c.of(head); got.writes < 1 {
			t.Errorf("a HEAD of a link that is old costs %+v", got)
		}
	})
}

// Where nothing can be written a HEAD is answered all the same; where writing fails
// otherwise, nothing is promised.
func TestRenewalFails(t *testing.T) {
	for _, c := range []struct {
		err error
		ok  bool
	}{{syscall.ENOSPC, true}, {syscall.EROFS, true}, {syscall.EIO, false}} {
		synctest.Test(t, func(t *testing.T) {
			w := &watched{Records: mem.NewRecords()}
			reg, err := local.New(mem.NewBlobs(), w, local.Options{Grace: leaseGrace})
			if err != nil {
				t.Fatal(err)
			}
			d := origintest.PushBlob(t, reg, "a", []byte("blob"))
			time.Sleep(leaseGrace / 2)
			w.fail = func(string) (bool, error) { return false, c.err }
			_, err = reg.Stat(t.Context(), origintest.Repo(t, "a"), d)
			if (err == nil) != c.ok || err != nil && !errors.Is(err, c.err) {
				t.Errorf("HEAD while writes fail with %v: %v", c.err, err)
			}
			w.fail = nil
			changes := len(w.changes)
			if _, err := reg.Stat(t.Context(), origintest.Repo(t, "a"), d); err != nil || len(w.changes) == changes {
				t.Errorf("HEAD afterwards: %v, and %q", err, w.changes[changes:])
			}
		})
	}
}

// crammed is records of which some have no room to be written over; conditions come first,
// as on a disk.
type crammed struct {
	store.Records
	full string // what those begin with; "": there is room
}

func (c *crammed) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	rec, err := c.Get(ctx, key)
	if err == nil && c.full != "" && strings.HasPrefix(key, c.full) && if_.Allows(true, rec.Version) {
		return "", syscall.ENOSPC
	}
	return c.Records.Put(ctx, key, data, if_)
}

// Whoever relies on a lease that could not be renewed is told so, although what he pushes
// himself had room: a collection may have seen the old lease, and go on.
func TestNothingRestsOnOldLeases(t *testing.T) {
	repo := origintest.Repo(t, "a")
	image := origintest.Image([]byte("{}"), []byte("layer"))
	signature := origintest.Artifact(image.Manifest.Descriptor.Descriptor, "application/x", nil, []byte("signature"))
	push := func(tree origintest.Tree) func(*testing.T, *local.Registry) error {
		return func(t *testing.T, reg *local.Registry) error {
			_, err := reg.Push(t.Context(), repo, tree.Manifest, origin.PushOptions{Tags: []origin.Ref{origintest.Ref(t, "new")}})
			return err
		}
	}
	for _, c := range []struct {
		what, full string
		do         func(*testing.T, *local.Registry) error
	}{
		{"manifest that names a blob", "r/a/_b/", push(image)},
		{"upload of a blob that is there", "r/a/_b/", func(t *testing.T, reg *local.Registry) error {
			in, err := reg.Upload(t.Context(), repo, "", digest.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.Write([]byte("layer")); err != nil {
				t.Fatal(err)
			}
			_, err = in.Commit(t.Context(), digest.FromString("layer"))
			return err
		}},
		{"mount of a blob that is there", "r/a/_b/", func(t *testing.T, reg *local.Registry) error {
			_, err := reg.Mount(t.Context(), repo, repo, digest.FromString("layer"))
			return err
		}},
		{"manifest with a subject, again", "r/a/_m/", push(signature)},
		{"index that names one", "r/a/_m/", push(origintest.Index(signature))},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := &crammed{Records: mem.NewRecords()}
				reg, err := local.New(mem.NewBlobs(), records, local.Options{Grace: leaseGrace})
				if err != nil {
					t.Fatal(err)
				}
				image.Push(t, reg, "a")
				signature.Push(t, reg, "a")
				time.Sleep(2 * leaseGrace)
				records.full = c.full
				wantError(t, c.what, c.do(t, reg), syscall.ENOSPC)
				if _, err := reg.Stat(t.Context(), repo, digest.FromString("layer")); err != nil {
					t.Errorf("HEAD of a blob: %v", err)
				}
				if _, err := reg.Resolve(t.Context(), repo, origin.ByDigest(signature.Digest())); err != nil {
					t.Errorf("HEAD of a manifest: %v", err)
				}
				records.full = ""
				if err := c.do(t, reg); err != nil {
					t.Errorf("%s, with room again: %v", c.what, err)
				}
			})
		})
	}
}
