package serve_test

import (
	"context"
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
)

// eager notes whether manifests are to be fresh.
type eager struct {
	origin.None
	refresh []bool
}

func (e *eager) Resolve(ctx context.Context, _ origin.Repo, _ origin.Ref) (origin.Descriptor, error) {
	e.refresh = append(e.refresh, origin.RequestOf(ctx).Refresh)
	return origin.Descriptor{}, origin.ErrManifestUnknown
}

func (e *eager) Manifest(ctx context.Context, _ origin.Repo, _ origin.Ref) (origin.Manifest, error) {
	e.refresh = append(e.refresh, origin.RequestOf(ctx).Refresh)
	return origin.Manifest{}, origin.ErrManifestUnknown
}

// Cache-Control: no-cache asks for a fresh manifest, whoever stands before the handler.
func TestRefresh(t *testing.T) {
	for value, want := range map[string]bool{
		"no-cache": true, "No-Cache": true, "max-age=0, no-cache": true, "": false, "no-store": false, "no-cache-please": false, "max-age=0": false,
	} {
		e := &eager{}
		h := serve.New(e, serve.Options{})
		outer := &origin.Request{}
		for _, method := range []string{"GET", "HEAD"} {
			r := request(method, "/v2/team/app/manifests/v1", "")
			if method == "HEAD" {
				r = r.WithContext(origin.WithRequest(r.Context(), outer))
			}
			r.Header.Set("Cache-Control", value)
			if _, err := ask(h, r); err != nil {
				t.Fatal(err)
			}
		}
		if len(e.refresh) != 2 || e.refresh[0] != want || e.refresh[1] != want || outer.Route == "" {
			t.Errorf("%q: %v, want %v; %+v", value, e.refresh, want, outer)
		}
	}
}
