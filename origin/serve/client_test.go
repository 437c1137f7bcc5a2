package serve_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/weir-registry/weir/origin/serve"
)

// TestRealClient: a client that is not ours pushes an index, mounts it into another
// repository, pulls it back whole, and finds its names.
func TestRealClient(t *testing.T) {
	srv := newServer(t, newLocal(t), serve.Options{Stall: time.Minute})
	host := strings.TrimPrefix(srv.URL, "http://")
	idx, err := random.Index(50_000, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	opts := []remote.Option{remote.WithContext(t.Context()), remote.WithTransport(srv.Client().Transport)}
	for _, repo := range []string{"team/app", "team/copy"} {
		ref, err := name.NewTag(host + "/" + repo + ":v1")
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(ref, idx, opts...); err != nil {
			t.Fatalf("push to %s: %v", repo, err)
		}
		got, err := remote.Index(ref, opts...)
		if err != nil {
			t.Fatalf("pull from %s: %v", repo, err)
		}
		readAll(t, got)
		tags, err := remote.List(ref.Repository, opts...)
		if err != nil || strings.Join(tags, " ") != "v1" {
			t.Errorf("%s: tags %v, %v", repo, tags, err)
		}
		if idx, err = remote.Index(ref, opts...); err != nil { // mounted from where it was pulled
			t.Fatal(err)
		}
	}
	reg, err := name.NewRegistry(host)
	if err != nil {
		t.Fatal(err)
	}
	repos, err := remote.Catalog(t.Context(), reg, opts...)
	if err != nil || strings.Join(repos, " ") != "team/app team/copy" {
		t.Errorf("catalog %v, %v", repos, err)
	}
}

// readAll reads every byte of an index; the client verifies them.
func readAll(t *testing.T, idx v1.ImageIndex) {
	t.Helper()
	m, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Manifests {
		img, err := idx.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := img.RawConfigFile(); err != nil {
			t.Error(err)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			r, err := l.Compressed()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				t.Errorf("layer of %s: %v", d.Digest, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
