package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
)

// TestReplicaIsKilled: two mirrors over one store fetch the same blob, and one of them
// ends in the middle. The clients of the other notice nothing, and one whole blob is
// there in the end (trust R-9).
func TestReplicaIsKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newRig(t)
		other := newRig(t, func(r *rig) { r.hub, r.blobs, r.records = one.hub, one.blobs, one.records })
		img := nginx()
		img.Push(t, one.hub[0].Registry, name, "1.27")
		layer, repo := img.Blobs[2], origintest.Repo(t, full)
		one.hub[0].failing(func(ctx context.Context, _ string) error { // slow: both are in the middle of it
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		var clients sync.WaitGroup
		for range 5 {
			clients.Go(func() {
				_ = readBlob(context.Background(), one, repo, layer.Digest, store.Range{}) // however it ends
			})
			clients.Go(func() {
				b, err := other.Blob(context.Background(), repo, layer.Digest, store.Range{})
				if err != nil {
					t.Errorf("at the one that lives: %v", err)
					return
				}
				defer func() { _ = b.Body.Close() }()
				if got, err := io.ReadAll(b.Body); err != nil || !bytes.Equal(got, layer.Bytes) {
					t.Errorf("at the one that lives: %d bytes of %d, %v", len(got), len(layer.Bytes), err)
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		killed, kill := context.WithCancel(t.Context())
		kill()
		_ = one.Close(killed) // says what it cut
		clients.Wait()
		synctest.Wait()
		one.hub[0].failing(nil)
		one.hub[0].took()
		other.blob(full, layer.Digest, layer.Bytes)
		other.requests(one.hub[0]) // it is kept
		n := 0
		for info, err := range other.blobs.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if info.Digest == layer.Digest {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d objects", n)
		}
		for _, f := range one.readers {
			f.Close()
		}
		other.stop()
	})
}

// done is another replica that has fetched a blob, stored it, and given a part of it to who
// follows, when it is asked for the rest.
type done struct {
	given []byte
	store func()
}

func (d *done) Lead(context.Context, fill.Key) (release func(), leader string) {
	if d.store == nil {
		return func() {}, ""
	}
	return nil, "other"
}

func (*done) Await(context.Context, fill.Key) error { return nil }

func (d *done) Follow(_ context.Context, _ string, _ fill.Key, off, _ int64) (fill.Stream, error) {
	if off > 0 {
		d.store()
		d.store = nil
		return fill.Stream{}, errors.New("no such fill")
	}
	return fill.Stream{ReadCloser: io.NopCloser(bytes.NewReader(d.given[:1<<20])), Length: int64(len(d.given)), Size: int64(len(d.given))}, nil
}

// TestReplicaIsDoneFirst: who has read a part of what another replica fetched, when that is done
// with it, gets the rest from the store. (law 8)
func TestReplicaIsDoneFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blob := origintest.Bytes(1, 5<<20)
		other := &done{given: blob}
		r := newRig(t, func(r *rig) { r.group.Replicas, r.group.Limits.Streams = other, 1 })
		img := origintest.Image([]byte("{}"), blob)
		img.Push(t, r.hub[0].Registry, name, "1.27")
		other.store = func() { origintest.PushBlob(t, r.origin, full, blob) }
		r.blob(full, img.Blobs[1].Digest, blob)
		r.requests(r.hub[0])
		r.stop()
	})
}
