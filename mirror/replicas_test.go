package mirror_test

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
