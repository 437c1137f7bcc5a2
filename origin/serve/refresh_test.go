package serve_test

import (
	"context"
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
)

// eager notes whether manifests are to be fresh, and whether a client is about to pull.
type eager struct {
	origin.None
	refresh, reads []bool
}

func (e *eager) Resolve(ctx context.Context, _ origin.Repo, _ origin.Ref) (origin.Descriptor, error) {
	e.refresh, e.reads = append(e.refresh, origin.RequestOf(ctx).Refresh), append(e.reads, origin.RequestOf(ctx).Reads)
	return origin.Descriptor{}, origin.ErrManifestUnknown
}

func (e *eager) Manifest(ctx context.Context, _ origin.Repo, _ origin.Ref) (origin.Manifest, error) {
	e.refresh, e.reads = append(e.refresh, origin.RequestOf(ctx).Refresh), append(e.reads, origin.RequestOf(ctx).Reads)
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

// Clients that resolve a tag to pull it take whatever it is; those that are about to push
// name what they have.
func TestReads(t *testing.T) {
	const (
		docker = "application/vnd.docker.distribution.manifest.v2+json"
		list   = "application/vnd.docker.distribution.manifest.list.v2+json"
		image  = "application/vnd.oci.image.manifest.v1+json"
		index  = "application/vnd.oci.image.index.v1+json"
	)
	for accept, want := range map[string]bool{
		docker + ", " + list + ", " + image + ", " + index + ", */*": true, // containerd and Docker, pulling
		docker + "," + image + ",*/*;q=0.1":                          true,
		image + ", */*":                                              false, // containerd, Docker, BuildKit: pushing
		docker + "," + list + "," + image + "," + index:              false, // crane, oras: both
		"*/*": false,
		"":    false,
	} {
		e := &eager{}
		h := serve.New(e, serve.Options{})
		for _, method := range []string{"HEAD", "GET"} {
			r := request(method, "/v2/team/app/manifests/v1", "")
			r.Header.Set("Accept", accept)
			if _, err := ask(h, r); err != nil {
				t.Fatal(err)
			}
		}
		if len(e.reads) != 2 || e.reads[0] != want || e.reads[1] {
			t.Errorf("%q: %v, want %v for HEAD", accept, e.reads, want)
		}
	}
}
