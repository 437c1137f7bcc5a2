package mirror_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
)

// check gives what a check finds damaged, and how much it looks at.
func (r *rig) check() (damaged []origin.Remembered, all int) {
	r.t.Helper()
	for is, err := range r.Check(context.Background()) {
		if err != nil {
			r.t.Fatal(err)
		}
		if all++; is.Damaged {
			damaged = append(damaged, is)
		}
	}
	return damaged, all
}

// What is remembered and damaged is found, named and forgotten: the next client has it asked for.
func TestCheckForgetsWhatIsDamaged(t *testing.T) {
	d := nginx().Digest()
	for kind, ask := range map[string]string{"t": "HEAD " + name + " 1", "m": "GET " + name + " " + d.String()} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				img := nginx()
				img.Push(t, r.hub[0].Registry, name, "1")
				r.pull(full, "1", img)
				r.stop()
				key := map[string]string{"t": "_t/1", "m": "_m/sha256/" + d.Encoded()}[kind]
				if _, err := r.records.Put(t.Context(), "mirror/"+full+"/"+key, []byte("{"), store.Always()); err != nil {
					t.Fatal(err)
				}
				if kind == "m" {
					// The origin has it too, and a mirror that has forgotten it takes that.
					if err := r.origin.DeleteManifest(t.Context(), origintest.Repo(t, full), origin.ByDigest(d)); err != nil {
						t.Fatal(err)
					}
				}
				r.open()
				r.start()
				r.hub[0].took()
				damaged, all := r.check()
				if len(damaged) != 1 || damaged[0].Repo.String() != full || (damaged[0].Digest == d) != (kind == "m") || all < 2 {
					t.Errorf("damaged %+v, of %d", damaged, all)
				}
				if again, rest := r.check(); len(again) != 0 || rest != all-1 {
					t.Errorf("again: damaged %+v, of %d", again, rest)
				}
				r.pull(full, "1", img)
				r.requests(r.hub[0], ask)
				r.stop()
			})
		})
	}
}

// A manifest that the origin has lost comes back from what the mirror remembers; if that is
// gone, too, from the upstream; and where nothing is mirrored from nowhere.
func TestRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1")
		r.pull(full, "1", img)
		r.stop()
		repo, d := origintest.Repo(t, full), img.Digest()
		for _, want := range [][]string{nil, {"GET " + name + " " + d.String()}} {
			if err := r.records.Delete(t.Context(), "r/"+full+"/_m/sha256/"+d.Encoded(), store.Always()); err != nil {
				t.Fatal(err)
			}
			if want != nil {
				if err := r.records.Delete(t.Context(), "mirror/"+full+"/_m/sha256/"+d.Encoded(), store.Always()); err != nil {
					t.Fatal(err)
				}
			}
			r.open()
			r.start()
			r.hub[0].took()
			if err := r.Restore(t.Context(), repo, d); err != nil {
				t.Error(err)
			}
			r.requests(r.hub[0], want...)
			if _, err := r.origin.Manifest(t.Context(), repo, origin.ByDigest(d)); err != nil {
				t.Error(err)
			}
			if err := r.Restore(t.Context(), origintest.Repo(t, "weir.corp/team/app"), d); !errors.Is(err, origin.ErrManifestUnknown) {
				t.Errorf("of what is pushed: %v", err)
			}
			r.stop()
		}
	})
}
