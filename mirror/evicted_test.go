package mirror_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// evicting is records of a store from which another replica evicts a blob as soon as a
// repository links it: it had looked for links just before.
type evicting struct {
	*mem.Records
	linked string // what begins the keys of that repository's links
	evict  func()
}

func (e *evicting) look(keys ...string) {
	for _, key := range keys {
		if evict := e.evict; evict != nil && strings.HasPrefix(key, e.linked) {
			e.evict = nil
			evict()
		}
	}
}

func (e *evicting) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	version, err := e.Records.Put(ctx, key, data, if_)
	e.look(key)
	return version, err
}

func (e *evicting) PutAll(ctx context.Context, writes []store.Write) error {
	err := e.Records.PutAll(ctx, writes)
	for _, w := range writes {
		e.look(w.Key)
	}
	return err
}

// Bytes that another repository holds are linked, and another replica evicts them in that
// moment: who asks for them is no worse off than if nobody had held them.
func TestLinkMeetsEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const other = "library/other"
		records := &evicting{Records: mem.NewRecords(), linked: "r/docker.io/" + other + "/_b/"}
		r := newRig(t, func(r *rig) { r.records = records })
		layer := origintest.Bytes(7, 100<<10)
		img, d := origintest.Image([]byte("{}"), layer), digest.FromBytes(layer)
		for _, repo := range []string{name, other} {
			img.Push(t, r.hub[0].Registry, repo, "1")
		}
		r.blob(full, d, layer)
		synctest.Wait() // it is stored
		evicted := false
		records.evict = func() {
			if err := r.blobs.Delete(t.Context(), d); err != nil {
				t.Error(err)
			}
			evicted = true
		}
		r.hub[0].took()
		r.blob("docker.io/"+other, d, layer)
		if !evicted {
			t.Error("nothing was evicted: this was no test")
		}
		r.requests(r.hub[0], "HEAD "+other+" blob "+d.String(), "GET "+other+" blob "+d.String())
		r.stop()
	})
}
