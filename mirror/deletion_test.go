package mirror_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// lagging is records of which one is read, and answered later.
type lagging struct {
	store.Records
	begin string // of the name of that record
	until chan struct{}
}

func (l *lagging) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := l.Records.Get(ctx, key)
	if l.begin != "" && strings.HasPrefix(key, l.begin) {
		l.begin = ""
		<-l.until
	}
	return rec, err
}

// What was read before a deletion, and comes to memory after it, does not undo it.
func TestDeletionMeetsARead(t *testing.T) {
	img := nginx()
	for kind, ref := range map[string]string{"_t": "1", "_m": img.Digest().String()} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := &lagging{Records: mem.NewRecords(), until: make(chan struct{})}
				r := newRig(t, func(r *rig) { r.records = records })
				img.Push(t, r.hub[0].Registry, name, "1")
				r.pull(full, "1", img)
				r.restart() // nothing is in memory
				records.begin = "mirror/" + full + "/" + kind + "/"
				repo, what := origintest.Repo(t, full), origintest.Ref(t, ref)
				read := make(chan error, 1)
				go func() {
					_, err := r.Here().Manifest(context.Background(), repo, what)
					read <- err
				}()
				synctest.Wait()
				if err := r.DeleteManifest(t.Context(), repo, what); err != nil {
					t.Fatal(err)
				}
				close(records.until)
				if err := <-read; err != nil {
					t.Errorf("who had read before: %v", err)
				}
				if _, err := r.Here().Manifest(t.Context(), repo, what); !errors.Is(err, origin.ErrManifestUnknown) {
					t.Errorf("after it: %v", err)
				}
				r.stop()
			})
		})
	}
}

// So it is with what refers to a manifest.
func TestDeletionMeetsAReadOfReferrers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := &lagging{Records: mem.NewRecords(), until: make(chan struct{})}
		r := newRig(t, func(r *rig) { r.records = records })
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1")
		repo := origintest.Repo(t, full)
		list := func() {
			if _, err := r.Referrers(context.Background(), repo, img.Digest(), "", origin.Page{}); err != nil {
				t.Error(err)
			}
		}
		r.pull(full, "1", img)
		list()
		r.restart()
		records.begin = "mirror/" + full + "/_r/"
		read := make(chan struct{})
		go func() { list(); close(read) }()
		synctest.Wait()
		if err := r.DeleteManifest(t.Context(), repo, origin.ByDigest(img.Digest())); err != nil {
			t.Fatal(err)
		}
		close(records.until)
		<-read
		r.hub[0].took()
		list()
		r.requests(r.hub[0], "REFERRERS "+name+" "+img.Digest().String())
		r.stop()
	})
}

// halting is records in which what has names that begin so is halted, once it may be: before
// and after it is deleted, and before it is written.
type halting struct {
	store.Records
	begin               string
	delete, gone, write chan struct{} // nil: it is not halted
}

func (h *halting) halts(key string, until chan struct{}) {
	if until != nil && strings.HasPrefix(key, h.begin) {
		<-until
	}
}

func (h *halting) Delete(ctx context.Context, key string, c store.Condition) error {
	h.halts(key, h.delete)
	err := h.Records.Delete(ctx, key, c)
	h.halts(key, h.gone)
	return err
}

func (h *halting) Put(ctx context.Context, key string, data []byte, c store.Condition) (string, error) {
	h.halts(key, h.write)
	return h.Records.Put(ctx, key, data, c)
}

// What is read and comes to memory while a deletion waits for its turn is let go.
func TestDeletionFollowsARead(t *testing.T) {
	img := nginx()
	for kind, ref := range map[string]string{"_t": "1", "_m": img.Digest().String()} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := &halting{Records: mem.NewRecords(), begin: "mirror/" + full + "/" + kind + "/", delete: make(chan struct{})}
				r := newRig(t, func(r *rig) { r.records = records })
				img.Push(t, r.hub[0].Registry, name, "1")
				r.pull(full, "1", img)
				repo, what := origintest.Repo(t, full), origintest.Ref(t, ref)
				deleted := make(chan error)
				go func() { deleted <- r.DeleteManifest(context.Background(), repo, what) }()
				synctest.Wait()
				if _, err := r.Here().Manifest(t.Context(), repo, what); err != nil {
					t.Errorf("before it: %v", err)
				}
				close(records.delete)
				if err := <-deleted; err != nil {
					t.Error(err)
				}
				if _, err := r.Here().Manifest(t.Context(), repo, what); !errors.Is(err, origin.ErrManifestUnknown) {
					t.Errorf("after it: %v", err)
				}
				r.stop()
			})
		})
	}
}

// What is asked for again behind a deletion, before that has ended, stays in memory: nobody
// asks for it once more until it is recorded.
func TestDeletionMeetsAnAnswer(t *testing.T) {
	img := nginx()
	d := img.Digest().String()
	for kind, c := range map[string]struct{ ref, asked string }{
		"_t": {"1", "GET " + name + " 1"},
		"_m": {d, "GET " + name + " " + d},
		"_r": {d, "REFERRERS " + name + " " + d},
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				records := &halting{Records: mem.NewRecords(), begin: "mirror/" + full + "/" + kind + "/"}
				r := newRig(t, func(r *rig) { r.records = records })
				img.Push(t, r.hub[0].Registry, name, "1")
				repo, what := origintest.Repo(t, full), origintest.Ref(t, c.ref)
				ask := func(want ...string) {
					t.Helper()
					var err error
					if kind == "_r" {
						_, err = r.Referrers(t.Context(), repo, img.Digest(), "", origin.Page{})
					} else {
						_, err = r.Manifest(t.Context(), repo, what)
					}
					if err != nil {
						t.Error(err)
					}
					r.requests(r.hub[0], want...)
				}
				r.pull(full, "1", img)
				synctest.Wait()
				r.hub[0].took()
				records.gone, records.write = make(chan struct{}), make(chan struct{})
				deleted := make(chan error)
				go func() { deleted <- r.DeleteManifest(context.Background(), repo, what) }()
				synctest.Wait()
				ask(c.asked)
				close(records.gone)
				synctest.Wait()
				ask()
				close(records.write)
				if err := <-deleted; err != nil {
					t.Error(err)
				}
				r.restart() // it is recorded after the deletion
				ask()
				r.stop()
			})
		})
	}
}
