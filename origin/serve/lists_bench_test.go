package serve_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
)

// BenchmarkReferrers times a whole page of them.
func BenchmarkReferrers(b *testing.B) {
	var list origin.List[origin.Descriptor]
	for i := range 1000 {
		list.Items = append(list.Items, origin.Descriptor{Descriptor: v1.Descriptor{
			MediaType: v1.MediaTypeImageManifest, ArtifactType: "application/vnd.example.signature", Size: 700,
			Digest: digest.FromString(fmt.Sprint(i)), Annotations: map[string]string{"org.opencontainers.image.created": "2026-11-27T00:00:00Z"},
		}})
	}
	list.More = true
	h := serve.New(fake{referrers: func(origin.Page) (origin.List[origin.Descriptor], error) { return list, nil }}, serve.Options{})
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v2/a/referrers/"+list.Items[0].Digest.String(), nil))
		if w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}
