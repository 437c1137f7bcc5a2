package lifetime_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

var errBroken = errors.New("broken")

// tampered is a store of records that does not tell all.
type tampered struct {
	*mem.Records
	// entry says what becomes of a record in a listing: whether it is left out, whether the
	// listing ends before it, and with which error.
	entry func(key string) (leave, end bool, err error)
	// get says what a record is.
	get func(key string, rec store.Record) (store.Record, error)
	// all says that only listings of all records are tampered with.
	all bool
	// off is how far the store's clock is off.
	off time.Duration
}

func (x *tampered) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := x.Records.Get(ctx, key)
	rec.Modified = rec.Modified.Add(x.off)
	if err == nil && x.get != nil {
		return x.get(key, rec)
	}
	return rec, err
}

func (x *tampered) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range x.Records.List(ctx, prefix, after) {
			e.Modified = e.Modified.Add(x.off)
			if err == nil && x.entry != nil && (!x.all || prefix == "r") {
				leave, end, broken := x.entry(e.Key)
				if broken != nil {
					yield(store.Entry{}, broken)
					return
				}
				if end {
					return
				}
				if leave {
					continue
				}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// tamperings are all that may be wrong with what a store tells. What lies in repository
// a then stays, in all of them; what lies in b stays if it is of a listing.
var tamperings = map[string]struct {
	entry func(key string) (leave, end bool, err error)
	get   func(key string, rec store.Record) (store.Record, error)
	b     bool
	all   bool // only a listing of all repositories is tampered with
}{
	"a manifest cannot be read": {get: func(key string, rec store.Record) (store.Record, error) {
		if strings.HasPrefix(key, "r/a/_m/") {
			return rec, errBroken
		}
		return rec, nil
	}},
	"a manifest is damaged": {get: func(key string, rec store.Record) (store.Record, error) {
		if key == "r/a/_m/sha256/"+one.Digest().Encoded() {
			rec.Data = rec.Data[:len(rec.Data)-1]
		}
		return rec, nil
	}},
	"a tag is damaged": {get: func(key string, rec store.Record) (store.Record, error) {
		if strings.HasPrefix(key, "r/a/_t/") {
			rec.Data = []byte("{")
		}
		return rec, nil
	}},
	"a tag names nothing": {get: func(key string, rec store.Record) (store.Record, error) {
		if strings.HasPrefix(key, "r/a/_t/") {
			rec.Data = []byte(`{"digest":"` + origintest.NewBlob("", nil).Digest.String() + `"}`)
		}
		return rec, nil
	}},
	"a link is damaged": {get: func(key string, rec store.Record) (store.Record, error) {
		if strings.HasPrefix(key, "r/a/_b/") {
			rec.Data = nil
		}
		return rec, nil
	}},
	"a listing breaks off": {b: true, entry: func(key string) (bool, bool, error) {
		if strings.HasPrefix(key, "r/a/_m/") {
			return false, false, errBroken
		}
		return false, false, nil
	}},
	"a listing ends early, in a repository":    {b: true, entry: endsAt("r/a/_m/")},
	"a listing ends early, between them":       {b: true, entry: endsAt("r/a/_b/")},
	"a listing ends early, before all of them": {b: true, entry: endsAt("r/")},
	"a listing lacks what is tagged":           {entry: lacks("r/a/_m/sha256/" + both.Digest().Encoded())},
	"a listing lacks a child":                  {entry: lacks("r/a/_m/sha256/" + one.Digest().Encoded())},
	"a listing lacks a referrer":               {entry: lacks("r/a/_m/sha256/" + about.Digest().Encoded())},
	"a listing lacks all manifests":            {entry: lacks("r/a/_m/")},
	"a listing lacks a link":                   {b: true, entry: lacks("r/a/_b/sha256/" + layer.Digest.Encoded())},
	"a listing lacks all links":                {b: true, entry: lacks("r/a/_b/")},
	"a listing lacks a repository":             {b: true, entry: lacks("r/a/_"), all: true},
	"there is what nobody knows":               {b: true, entry: func(string) (bool, bool, error) { return false, false, nil }},
}

func endsAt(prefix string) func(key string) (bool, bool, error) {
	return func(key string) (bool, bool, error) { return false, strings.HasPrefix(key, prefix), nil }
}

func lacks(prefix string) func(key string) (bool, bool, error) {
	return func(key string) (bool, bool, error) { return strings.HasPrefix(key, prefix), false, nil }
}

// about refers to the first image, and is not tagged.
var about = origintest.Artifact(one.Manifest.Descriptor.Descriptor, "application/x", nil, []byte("about"))

// What cannot be read, or is missing from a listing, is not absent: its repository keeps
// all that it has, also what would go otherwise, and the collection fails. The next one,
// when all is well, does what there is to do (trust G-7).
func TestTampered(t *testing.T) {
	for name, c := range tamperings {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := &tampered{Records: mem.NewRecords()}
				r := &rig{t: t, blobs: mem.NewBlobs(), records: records, age: time.Sleep}
				r.reg = open(t, r.blobs, r.records, true)
				r.use(r.reg, false)
				r.push("a", both, "x")
				r.push("a", about)
				kept := []origintest.Blob{origintest.NewBlob("", []byte("lone"))}
				r.blob("a", kept[0].Bytes)
				other := r.blob("b", []byte("other"))
				if name == "there is what nobody knows" {
					if _, err := records.Put(t.Context(), "r/a/_z/x", nil, store.Always()); err != nil {
						t.Fatal(err)
					}
				}
				r.age(long)
				records.entry, records.get, records.all = c.entry, c.get, c.all
				for range 2 {
					if rep, err := r.collect.Run(t.Context(), false); err == nil {
						t.Errorf("the collection did not notice: %+v", rep)
					}
				}
				records.entry, records.get = nil, nil
				for _, tree := range []origintest.Tree{both, about} {
					if err := pulls(t.Context(), r.next(), repo(t, "a"), tree); err != nil {
						t.Error(err)
					}
				}
				if _, err := r.next().Link(t.Context(), repo(t, "a"), kept[0].Digest); err != nil || !r.stored(kept[0].Digest) {
					t.Errorf("what nobody needs in the repository: %v", err)
				}
				if r.stored(other) != c.b {
					t.Errorf("what nobody needs in another one is there: %t", !c.b)
				}
				if name == "there is what nobody knows" {
					return
				}
				r.full()
				if r.stored(kept[0].Digest) || r.stored(other) {
					t.Error("what nobody needs is there when all is well")
				}
				r.pull("a", both)
			})
		})
	}
}

// Clocks that are off keep content too long, or end the collection; nothing goes before its
// time (trust G-6).
func TestClocks(t *testing.T) {
	for _, off := range []time.Duration{time.Hour, -time.Hour, grace, -grace, 365 * grace, -365 * grace} {
		synctest.Test(t, func(t *testing.T) {
			records := &tampered{Records: mem.NewRecords()}
			r := &rig{t: t, blobs: mem.NewBlobs(), records: records, age: time.Sleep}
			var here time.Duration // how far this process's clock is off
			r.options.Now = func() time.Time { return time.Now().Add(here) }
			r.reg = open(t, r.blobs, r.records, false)
			r.use(r.reg, false)
			run := func(what string, fails bool) {
				t.Helper()
				_, err := r.collect.Run(t.Context(), false)
				if fails != errors.Is(err, lifetime.ErrClock) || !fails && err != nil {
					t.Errorf("%s, by %v: %v", what, off, err)
				}
			}
			far := off.Abs() > grace/4
			asked, lone := r.blob("a", []byte("asked")), r.blob("a", []byte("lone"))
			r.age(grace / 2)
			here = off
			run("this process is off", far)
			here, records.off = 0, off
			run("the store is off", far)
			here = off
			// Both are: a jump ahead makes all that there is look older than it is.
			run("both have jumped", off > grace/4)
			if !r.stored(asked) || !r.stored(lone) {
				t.Fatalf("gone before its time, by clocks that are off by %v", off)
			}
			// A process that serves meanwhile renews by the store's clock.
			r.head("a", asked)
			r.age(grace * 9 / 10)
			r.head("a", asked)
			r.age(grace * 3 / 10)
			run("all is steady", false)
			if !r.stored(asked) {
				t.Errorf("what was asked for is gone, by clocks that are off by %v", off)
			}
			if off > 0 && r.stored(lone) {
				t.Errorf("what nobody asked for is there, by clocks that are off by %v", off)
			}
		})
	}
}
