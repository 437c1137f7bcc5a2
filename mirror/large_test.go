package mirror_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// held are records of which none is written before a moment.
type held struct {
	store.Records
	until <-chan struct{}
}

func (h held) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	if strings.HasPrefix(key, "mirror/") {
		<-h.until
	}
	return h.Records.Put(ctx, key, data, if_)
}

// A digest is fetched once, also a manifest that is too large to be held in memory for
// long, and also by who comes before it is recorded; when it was deleted by then, it is gone.
func TestLargeManifestIsFetchedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		write := make(chan struct{})
		r := newRig(t, func(r *rig) { r.records = held{mem.NewRecords(), write} })
		img := nginx()
		img.Push(t, r.hub[0].Registry, name)
		annotations := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}],"annotations":{"long":%q}}`,
			"application/vnd.oci.image.index.v1+json", img.Manifest.MediaType, img.Digest(), img.Manifest.Size, strings.Repeat("x", 100<<10))
		large := origintest.NewManifest("application/vnd.oci.image.index.v1+json", []byte(annotations))
		origintest.PushManifest(t, r.hub[0].Registry, name, large, "1")
		r.hub[0].took()
		repo := origintest.Repo(t, full)
		for range 3 {
			m, err := r.Manifest(t.Context(), repo, origin.ByDigest(large.Digest))
			if err != nil || string(m.Bytes) != string(large.Bytes) {
				t.Fatalf("%d bytes, %v", len(m.Bytes), err)
			}
		}
		r.requests(r.hub[0], "GET "+name+" "+large.Digest.String())
		deleted := make(chan error, 1)
		go func() { deleted <- r.DeleteManifest(context.Background(), repo, origin.ByDigest(large.Digest)) }()
		synctest.Wait()
		close(write)
		if err := <-deleted; err != nil {
			t.Errorf("delete: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := r.Manifest(t.Context(), repo, origin.ByDigest(large.Digest)); err != nil {
			t.Error(err)
		}
		r.requests(r.hub[0], "GET "+name+" "+large.Digest.String())
		r.stop()
	})
}
