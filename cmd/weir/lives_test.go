package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// The store's directory is taken away; an empty one lies there, then a copy of the store.
// Nothing is made in the empty one, nothing that was stored is said not to be there, and
// over the copy all goes on, with what is pushed from then on in it, without a restart.
func TestStoreComesBack(t *testing.T) {
	u := remotetest.New(t)
	layer := origintest.Bytes(1, 3000)
	img := u.AddImage("library/nginx", "1", layer)
	top := t.TempDir()
	data, aside := filepath.Join(top, "data"), filepath.Join(top, "aside")
	r := start(t, data, hub(u, ""))
	ours := origintest.Image([]byte(`{}`), []byte("ours"))
	for _, b := range ours.Blobs {
		r.push("team/app", b.Bytes)
	}
	if a := r.do(http.MethodPut, "/v2/team/app/manifests/1", bytes.NewReader(ours.Manifest.Bytes), "Content-Type", ours.Manifest.MediaType); a.status != http.StatusCreated {
		t.Fatalf("push: %d %s", a.status, a.body)
	}
	mirrored := "/v2/docker.io/library/nginx/blobs/" + img.Layers[0].Digest.String()
	pushed := "/v2/team/app/manifests/1"
	get := func(path string, want []byte) {
		t.Helper()
		if a := r.get(path); a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, want) {
			t.Errorf("%s: %d, %d bytes, %v", path, a.status, len(a.body), a.err)
		}
	}
	ready := func(want int) { // the first time that it is asked
		t.Helper()
		if got := r.adminStatus("/readyz"); got != want {
			t.Errorf("readyz: %d, want %d", got, want)
		}
	}
	get(mirrored, layer)
	eventually(t, "the layer is kept", func() bool {
		_, err := os.Stat(filepath.Join(data, "blobs", "sha256", img.Layers[0].Digest.Encoded()))
		return err == nil
	})
	ready(http.StatusOK)

	if err := os.Rename(data, aside); err != nil {
		t.Fatal(err)
	}
	ready(http.StatusServiceUnavailable)
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := r.log.entry(t.Context(), "where the store was is something else: it is left alone"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{mirrored, pushed, "/v2/docker.io/library/nginx/manifests/1"} {
		if a := r.get(path); a.status != http.StatusOK && a.status < 500 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if made, err := os.ReadDir(data); err != nil || len(made) > 0 {
		t.Errorf("in the empty directory there are %v, %v", made, err)
	}
	ready(http.StatusServiceUnavailable)

	if err := os.Remove(data); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(top, "copy")
	copyStore(t, copied, aside)
	// weir has it open, and may be about to write there.
	eventually(t, "what was moved aside is gone", func() bool { return os.RemoveAll(aside) == nil })
	if err := os.Rename(copied, data); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready again", func() bool { return r.adminStatus("/readyz") == http.StatusOK })
	u.Refuse()
	get(mirrored, layer)
	get(pushed, ours.Manifest.Bytes)
	d := r.push("team/app", []byte("later"))
	if _, err := os.Stat(filepath.Join(data, "blobs", "sha256", d.Encoded())); err != nil {
		t.Errorf("what is pushed now: %v", err)
	}
}

// copyStore copies what a store keeps, and not what comes and goes.
func copyStore(t *testing.T, to, from string) {
	t.Helper()
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := filepath.Join(from, e.Name())
		switch {
		case e.Name() == "tmp" || e.Name() == ".sock":
		case e.IsDir():
			if err := os.CopyFS(filepath.Join(to, e.Name()), os.DirFS(name)); err != nil {
				t.Fatal(err)
			}
		default:
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(to, e.Name()), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}
