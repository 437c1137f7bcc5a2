package serve_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
)

// elsewhere is a fake that knows another place.
type elsewhere struct {
	fake
	place func() (origin.Redirect, bool, error)
}

func (e elsewhere) BlobURL(context.Context, origin.Repo, digest.Digest) (origin.Redirect, bool, error) {
	return e.place()
}

func TestRedirect(t *testing.T) {
	d := digest.FromString("x")
	at := "/v2/team/app/blobs/" + d.String()
	asked, there, failed := 0, true, error(nil)
	e := elsewhere{place: func() (origin.Redirect, bool, error) {
		asked++
		return origin.Redirect{URL: "https://bucket/x?sign=1", Source: origin.Source{Cache: origin.Hit}}, there, failed
	}}
	e.blob = blobs(func(store.Range) (origin.Blob, error) { return origin.Blob{}, origin.ErrBlobUnknown })
	e.stat = func(origin.Repo, digest.Digest) (origin.Descriptor, error) {
		return origin.Descriptor{}, origin.ErrBlobUnknown
	}
	h := serve.New(e, serve.Options{})
	for _, headers := range [][]string{nil, {"Range", "bytes=1-2"}, {"Range", "nonsense"}} {
		w := get(t, h, http.MethodGet, at, "", headers...)
		got := w.Result().Header
		if w.Code != http.StatusTemporaryRedirect || got.Get("Location") != "https://bucket/x?sign=1" || got.Get("Cache-Control") != "private, no-store" ||
			got.Get("Docker-Content-Digest") != d.String() || got.Get("Weir-Cache") != "hit" || w.Body.Len() > 0 {
			t.Errorf("%q: %d, %v, %q", headers, w.Code, got, w.Body)
		}
	}
	asked = 0
	if w := get(t, h, http.MethodHead, at, ""); w.Code != http.StatusNotFound || asked != 0 {
		t.Errorf("HEAD: %d after %d questions", w.Code, asked)
	}
	if w := get(t, h, http.MethodGet, at, "", "If-None-Match", `"`+d.String()+`"`); w.Code != http.StatusNotFound || asked != 0 {
		t.Errorf("If-None-Match: %d after %d questions", w.Code, asked)
	}
	there = false
	if w := get(t, h, http.MethodGet, at, ""); w.Code != http.StatusNotFound || w.Result().Header.Get("Location") != "" {
		t.Errorf("nowhere: %d, %v", w.Code, w.Result().Header)
	}
	there, failed = true, origin.ErrDenied
	if w := get(t, h, http.MethodGet, at, ""); w.Code != http.StatusForbidden || w.Result().Header.Get("Location") != "" {
		t.Errorf("denied: %d, %v", w.Code, w.Result().Header)
	}
}
