package conformance

import (
	"bytes"
	"io"
	"log"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
)

// TestRequests writes down what every hop of the three topologies is asked for a cold
// pull, a warm one and a push.
func TestRequests(t *testing.T) {
	t.Run("origin", func(t *testing.T) {
		o := serving(t, newLocal(t), serve.Options{})
		push(t, o)
	})
	t.Run("in one process", func(t *testing.T) {
		up := serving(t, newLocal(t), serve.Options{})
		pullTwice(t, up, inProcess(t, up.url, false), nil)
		push(t, inProcess(t, up.url, false))
		up.check("the upstream")
	})
	for name, open := range map[string]func(t testing.TB) *hop{
		"in front of a weir":               func(t testing.TB) *hop { return serving(t, newLocal(t), serve.Options{}) },
		"in front of go-containerregistry": func(t testing.TB) *hop { return newHop(t, registry.New(registry.Logger(log.New(io.Discard, "", 0)))) },
	} {
		t.Run(name, func(t *testing.T) { requestsOf(t, open) })
	}
}

// requestsOf checks the requests of a mirror in front of a registry.
func requestsOf(t *testing.T, open func(t testing.TB) *hop) {
	up, o := serving(t, newLocal(t), serve.Options{}), open(t)
	pullTwice(t, up, sidecar(t, up.url, o.url, false), o)

	// What is pushed goes on as it comes: nothing is asked besides.
	o = open(t)
	at := sidecar(t, up.url, o.url, false)
	push(t, at)
	o.check("the registry behind", append(ping(), pushed("team/app")...)...)
	up.check("the upstream")

	// With a default upstream it is asked once whether the name is local; who asks for
	// what is there at the start of a push is answered by the upstream.
	o = open(t)
	at = sidecar(t, up.url, o.url, true)
	push(t, at)
	o.check("the registry behind", append(append(ping(), "GET /v2/team/app/tags/list?n=1"), pushed("team/app")...)...)
	up.check("the upstream")
	read(t, at, "team/app", "v1", app())
	d := app().Digest().String()
	o.check("the registry behind",
		"HEAD /v2/team/app/manifests/v1", "GET /v2/team/app/manifests/"+d,
		"GET /v2/team/app/blobs/"+app().Blobs[0].Digest.String(), "GET /v2/team/app/blobs/"+app().Blobs[1].Digest.String())
	up.check("the upstream")
}

// app is an image with a layer that is small and one that is not.
func app() origintest.Tree {
	return origintest.Image([]byte(`{"os":"linux"}`), origintest.Bytes(1, 300<<10))
}

func ping() []string { return []string{"GET /v2/"} }

// pushed are the requests of a push of app.
func pushed(repo string) []string {
	config, layer := app().Blobs[0].Digest.String(), app().Blobs[1].Digest.String()
	return []string{
		"POST /v2/" + repo + "/blobs/uploads/",
		"PUT /v2/" + repo + "/blobs/uploads/ID?digest=" + config,
		"POST /v2/" + repo + "/blobs/uploads/",
		"PATCH /v2/" + repo + "/blobs/uploads/ID",
		"PUT /v2/" + repo + "/blobs/uploads/ID?digest=" + layer,
		"PUT /v2/" + repo + "/manifests/v1",
	}
}

func push(t *testing.T, at *hop) {
	t.Helper()
	app().Push(t, client(t, at.url), "team/app", "v1")
	at.check("the registry that is pushed to", append(ping(), pushed("team/app")...)...)
}

// read pulls an image as containerd does: HEAD by tag, then all by digest.
func read(t *testing.T, at *hop, repo, tag string, want origintest.Tree) {
	t.Helper()
	readFrom(t, client(t, at.url), repo, tag, want, func(digest.Digest) {})
}

func readFrom(t *testing.T, c origin.Reader, repo, tag string, want origintest.Tree, after func(d digest.Digest)) {
	t.Helper()
	name := origintest.Repo(t, repo)
	d, err := c.Resolve(t.Context(), name, origintest.Ref(t, tag))
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Manifest(t.Context(), name, origin.ByDigest(d.Digest))
	if err != nil || !bytes.Equal(m.Bytes, want.Manifest.Bytes) {
		t.Fatalf("manifest: %v", err)
	}
	for _, b := range want.Blobs {
		blob, err := c.Blob(t.Context(), name, b.Digest, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(blob.Body)
		if err != nil || !bytes.Equal(got, b.Bytes) || blob.Body.Close() != nil {
			t.Errorf("blob %s: %d bytes, %v", b.Digest, len(got), err)
		}
		after(b.Digest)
	}
}

// pullTwice checks the requests of a cold pull and of a warm one; o is the registry
// behind, nil: there is none.
func pullTwice(t *testing.T, up, at, o *hop) {
	t.Helper()
	img := app()
	img.Push(t, client(t, up.url), "team/app", "v1")
	up.check("the upstream", append(ping(), pushed("team/app")...)...)
	name := upstreamName + "/team/app"
	config, layer, manifest := img.Blobs[0].Digest.String(), img.Blobs[1].Digest.String(), img.Digest().String()

	c := reader(t, at.url)
	readFrom(t, c, name, "v1", img, func(d digest.Digest) {
		if o != nil { // it is sent there behind the answer
			o.await("PUT /v2/" + name + "/blobs/uploads/ID?digest=" + d.String())
		}
	})
	up.check("the upstream of a cold pull", "GET /v2/",
		"HEAD /v2/team/app/manifests/v1", "GET /v2/team/app/manifests/"+manifest,
		"GET /v2/team/app/blobs/"+config, "GET /v2/team/app/blobs/"+layer)
	if o != nil {
		o.await("PUT /v2/" + name + "/manifests/" + manifest)
		want := append(ping(), pushed(name)...)
		want[len(want)-1] = "PUT /v2/" + name + "/manifests/" + manifest
		o.check("the registry behind a cold pull", want...)
	}
	readFrom(t, c, name, "v1", img, func(digest.Digest) {})
	up.check("the upstream of a warm pull")
	if o != nil {
		o.check("the registry behind a warm pull", "GET /v2/"+name+"/blobs/"+config, "GET /v2/"+name+"/blobs/"+layer)
	}
}
