package mirror_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// Explain says what is known, and asks nobody.
func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		img := nginx()
		img.Push(t, r.hub[0].Registry, name, "1.27")
		repo, ref := origintest.Repo(t, full), origintest.Ref(t, "1.27")
		x, err := r.Explain(t.Context(), repo, ref)
		if err != nil || x.Route != "mirrored" || x.Upstream != "docker.io" || x.Tag != nil {
			t.Errorf("never pulled: %+v, %v", x, err)
		}
		r.requests(r.hub[0])
		r.pull(full, "1.27", origintest.Tree{Manifest: img.Manifest, Blobs: img.Blobs[:2]})
		synctest.Wait()
		r.hub[0].took()
		x, err = r.Explain(t.Context(), repo, ref)
		if err != nil || x.Tag == nil || !x.Tag.Fresh || x.Manifest == nil || !x.Manifest.Cached || len(x.Blobs) != 5 {
			t.Fatalf("%+v, %v", x, err)
		}
		var where []string
		for _, b := range x.Blobs {
			where = append(where, b.Where)
		}
		if !slices.Equal(where, []string{"stored", "stored", "upstream", "upstream", "upstream"}) {
			t.Errorf("blobs are %v", where)
		}
		r.requests(r.hub[0])
		r.stop()
	})
}

// lookedAt counts what is read.
type lookedAt struct {
	store.Records
	n atomic.Int64
}

func (l *lookedAt) Get(ctx context.Context, key string) (store.Record, error) {
	l.n.Add(1)
	return l.Records.Get(ctx, key)
}

// Of what names very much the first is looked for, and that there is more is said.
func TestExplainIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := &lookedAt{Records: mem.NewRecords()}
		r := newRig(t, func(r *rig) { r.records = records })
		names := func(n int, mediaType string) string {
			var list []string
			for i := range n {
				list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, mediaType, digest.FromString(fmt.Sprint(i))))
			}
			return "[" + strings.Join(list, ",") + "]"
		}
		for n, shortened := range map[int]bool{199: false, 3000: true} {
			for mediaType, text := range map[string]string{
				origin.MediaTypeOCIIndex:    `{"schemaVersion":2,"manifests":` + names(n, origin.MediaTypeOCIManifest) + `}`,
				origin.MediaTypeOCIManifest: `{"schemaVersion":2,"config":{"mediaType":"x/y","digest":"` + digest.FromString("config").String() + `","size":1},"layers":` + names(n, "x/y") + `}`,
			} {
				repo, ref := origintest.Repo(t, full), origin.ByDigest(digest.FromString(text))
				m := origin.Manifest{Bytes: []byte(text), Descriptor: origin.Descriptor{Descriptor: v1.Descriptor{MediaType: mediaType, Digest: ref.Digest(), Size: int64(len(text))}}}
				if _, err := r.hub[0].Registry.Push(t.Context(), origintest.Repo(t, name), m, origin.PushOptions{Sparse: true}); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Manifest(t.Context(), repo, ref); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				records.n.Store(0)
				x, err := r.Explain(t.Context(), repo, ref)
				if shown := len(x.Manifests) + len(x.Blobs); err != nil || x.Shortened != shortened || shown != min(n, 200) && shown != min(n+1, 200) {
					t.Errorf("%s of %d: %d are shown, shortened %v, %v", mediaType, n, shown, x.Shortened, err)
				}
				if read := records.n.Load(); read > 3*200+10 {
					t.Errorf("%s of %d: %d records were read", mediaType, n, read)
				}
			}
		}
		r.stop()
	})
}
