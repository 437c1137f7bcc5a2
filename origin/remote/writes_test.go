package remote_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/store"
)

// What each write costs.
func TestRequestsOfWrites(t *testing.T) {
	f := newFar(t)
	o := f.origin()
	small, large := []byte("small"), origintest.Bytes(1, 1<<20)
	img := origintest.Image([]byte("{}"))
	sha512 := img.Manifest
	sha512.Digest = digest.SHA512.FromBytes(sha512.Bytes)
	origintest.PushBlob(t, o, "a", img.Blobs[0].Bytes)
	f.took() // the ping, too

	for _, c := range []struct {
		what string
		do   func()
		want []string
	}{
		{"a small blob", func() { origintest.PushBlob(t, o, "a", small) }, []string{
			"POST /v2/a/blobs/uploads/",
			"PUT /v2/a/blobs/uploads/ID?digest=" + digest.FromBytes(small).String(),
		}},
		{"a large blob", func() { origintest.PushBlob(t, o, "a", large) }, []string{
			"POST /v2/a/blobs/uploads/",
			"PATCH /v2/a/blobs/uploads/ID",
			"PUT /v2/a/blobs/uploads/ID?digest=" + digest.FromBytes(large).String(),
		}},
		{"in pieces of several requests", func() {
			id := ""
			for i := range 8 {
				in, err := o.Upload(t.Context(), repo(t, "a"), id, digest.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := in.Write(large[i<<17 : (i+1)<<17]); err != nil {
					t.Fatal(err)
				}
				if id = in.ID(); in.Close() != nil || in.Size() != int64(i+1)<<17 {
					t.Errorf("size %d", in.Size())
				}
			}
			in, err := o.Upload(t.Context(), repo(t, "a"), id, "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.Commit(t.Context(), digest.FromBytes(large)); err != nil {
				t.Error(err)
			}
		}, []string{
			"POST /v2/a/blobs/uploads/",
			"PATCH /v2/a/blobs/uploads/ID",
			"PUT /v2/a/blobs/uploads/ID?digest=" + digest.FromBytes(large).String(),
		}},
		{"a wrong digest", func() {
			in, err := o.Upload(t.Context(), repo(t, "a"), "", digest.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.Write(small); err != nil {
				t.Fatal(err)
			}
			_, err = in.Commit(t.Context(), digest.FromString("other"))
			if !errors.Is(err, origin.ErrDigestInvalid) || !errors.Is(err, store.ErrDigest) {
				t.Errorf("told %v", err)
			}
		}, []string{"POST /v2/a/blobs/uploads/", "DELETE /v2/a/blobs/uploads/ID"}},
		{"a mount", func() {
			if _, err := o.Mount(t.Context(), repo(t, "a"), repo(t, "b"), digest.FromBytes(small)); err != nil {
				t.Error(err)
			}
		}, []string{"POST /v2/b/blobs/uploads/?from=a&mount=" + digest.FromBytes(small).String()}},
		{"a mount of nothing", func() {
			if _, err := o.Mount(t.Context(), repo(t, "a"), repo(t, "b"), digest.FromString("none")); !errors.Is(err, origin.ErrBlobUnknown) {
				t.Errorf("told %v", err)
			}
		}, []string{
			"POST /v2/b/blobs/uploads/?from=a&mount=" + digest.FromString("none").String(),
			"DELETE /v2/b/blobs/uploads/ID",
		}},
		{"a manifest", func() { origintest.PushManifest(t, o, "a", img.Manifest) }, []string{"PUT /v2/a/manifests/" + img.Digest().String()}},
		{"with tags", func() { origintest.PushManifest(t, o, "a", img.Manifest, "x", "y") }, []string{"PUT /v2/a/manifests/x", "PUT /v2/a/manifests/y"}},
		{"by sha512", func() { origintest.PushManifest(t, o, "a", sha512, "x", "y") }, []string{"PUT /v2/a/manifests/" + sha512.Digest.String() + "?tag=x&tag=y"}},
		{"the wrong manifest", func() {
			m := img.Manifest
			m.Bytes = []byte("{}")
			if _, err := o.Push(t.Context(), repo(t, "a"), m, origin.PushOptions{}); !errors.Is(err, origin.ErrDigestInvalid) {
				t.Errorf("told %v", err)
			}
		}, nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			c.do()
			equal(t, f.took(), c.want)
		})
	}
}

// What an endpoint refuses has a meaning, and is no outage unless it is one.
func TestRefusedWrites(t *testing.T) {
	oci := func(code string) string { return `{"errors":[{"code":"` + code + `","message":"because"}]}` }
	for _, c := range []struct {
		status int
		body   string
		want   error
		client int // the status that a client is told
	}{
		{404, oci("MANIFEST_BLOB_UNKNOWN"), origin.ErrManifestBlobUnknown, 404},
		{400, oci("MANIFEST_BLOB_UNKNOWN"), origin.ErrManifestBlobUnknown, 404},
		{404, oci("MANIFEST_UNKNOWN"), origin.ErrManifestBlobUnknown, 404}, // go-containerregistry's, of a child
		{400, oci("MANIFEST_INVALID"), origin.ErrManifestInvalid, 400},
		{400, oci("TAG_INVALID"), origin.ErrTagInvalid, 400},
		{400, oci("UNSUPPORTED"), origin.ErrUnsupported, 405},
		{400, "what", origin.ErrUnavailable, 502},
		{401, oci("UNAUTHORIZED"), origin.ErrDenied, 403},
		{403, oci("DENIED"), origin.ErrDenied, 403},
		{405, "", origin.ErrUnsupported, 405},
		{409, "", origin.ErrDenied, 403},
		{412, oci("PRECONDITION"), origin.ErrDenied, 403},
		{413, "", origin.ErrSizeInvalid, 413},
		{429, oci("TOOMANYREQUESTS"), origin.ErrUnavailable, 503},
		{500, "", origin.ErrUnavailable, 502},
		{507, oci("UNKNOWN"), origin.ErrUnavailable, 502},
		{202, "", origin.ErrUnavailable, 502}, // it was taken, and is not there
		{302, "", origin.ErrUnavailable, 502},
	} {
		t.Run(fmt.Sprint(c.status, c.body), func(t *testing.T) {
			f := newFar(t)
			img := origintest.Image([]byte("{}"))
			f.answer(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut {
					return false
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
				return true
			})
			_, err := f.origin().Push(t.Context(), repo(t, "a"), img.Manifest, origin.PushOptions{})
			e := upstreamError(t, err)
			told, ok := errors.AsType[*origin.Error](err)
			if !errors.Is(err, c.want) || !ok || told.HTTPStatus() != c.client {
				t.Errorf("told %v (%d)", err, told.HTTPStatus())
			}
			if c.status >= 400 && e.Status != c.status {
				t.Errorf("status %d", e.Status)
			}
		})
	}
}

// An upload's Location on another host is sent the bytes, and no credentials; one that
// is no such URL, carries credentials, or names what no endpoint may lead to, is not
// followed. Wherever else it may lead is TestNoCredentialLeaves's.
func TestLocationElsewhere(t *testing.T) {
	const want = "Basic dXNlcjpwYXNz"
	var elsewhere []string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		elsewhere = append(elsewhere, fmt.Sprintf("%s %s %d %q", r.Method, r.URL.RequestURI(), len(b), r.Header.Get("Authorization")))
		w.Header().Set("Location", "/go/on?state=2&a=%2F")
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusCreated)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer other.Close()
	f := newFar(t)
	location := other.URL + "/begin?state=1"
	f.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != want {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusAccepted)
		return true
	})
	o := f.origin(as("user", "pass"))
	large := origintest.Bytes(1, 1<<20)
	origintest.PushBlob(t, o, "a", large)
	equal(t, elsewhere, []string{
		`PATCH /begin?state=1 1048576 ""`,
		fmt.Sprintf(`PUT /go/on?state=2&a=%%2F&digest=sha256%%3A%s 0 ""`, digest.FromBytes(large).Encoded()),
	})
	elsewhere = nil
	for _, bad := range []string{"", "ftp://x/y", "http://user:pass@" + other.Listener.Addr().String() + "/", "http://169.254.169.254/latest", "http://2130706433/"} {
		location = bad
		in, err := o.Upload(t.Context(), repo(t, "a"), "", digest.SHA256)
		if err == nil {
			if _, err = in.Write(large); err == nil {
				_, err = in.Commit(t.Context(), digest.FromBytes(large))
			}
		}
		if !errors.Is(err, origin.ErrUnavailable) {
			t.Errorf("Location %q: %v", bad, err)
		}
	}
	equal(t, elsewhere, nil)
}

// Without an API of referrers the tag in its place is kept up, by pushes and deletions.
func TestReferrersTag(t *testing.T) {
	f := serving(t, registry.New())
	o := f.origin()
	img := origintest.Image([]byte("{}"))
	img.Push(t, o, "a", "x")
	one := origintest.Artifact(img.Manifest.Descriptor.Descriptor, "application/x", map[string]string{"k": "v"}, []byte("one"))
	two := origintest.Artifact(img.Manifest.Descriptor.Descriptor, "application/y", nil, []byte("two"))
	one.Push(t, o, "a")
	two.Push(t, o, "a")
	two.Push(t, o, "a")
	origintest.CheckReferrers(t, o, "a", img.Digest(), "", []origintest.Tree{one, two})
	origintest.CheckReferrers(t, o, "a", img.Digest(), "application/x", []origintest.Tree{one})
	if err := o.DeleteManifest(t.Context(), repo(t, "a"), origin.ByDigest(one.Digest())); err != nil {
		t.Fatal(err)
	}
	origintest.CheckReferrers(t, o, "a", img.Digest(), "", []origintest.Tree{two})
}

// A repository's name is asked for with the scope that is needed, and no challenge
// makes that less.
func TestScopesOfWrites(t *testing.T) {
	f := newFar(t)
	var scopes []string
	f.answer(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			scopes = append(scopes, strings.Join(r.URL.Query()["scope"], " + "))
			_ = json.NewEncoder(w).Encode(map[string]any{"token": fmt.Sprintf("t%d", len(scopes)), "expires_in": 300})
			return true
		case !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer t"):
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+f.URL+`/token",service="x",scope="repository:a:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	})
	o := f.origin()
	img := origintest.Image([]byte("{}"))
	img.Push(t, o, "a", "x")
	origintest.CheckManifest(t, o, "a", "x", img.Manifest)
	if _, err := o.Mount(t.Context(), repo(t, "a"), repo(t, "b"), img.Blobs[0].Digest); err != nil {
		t.Error(err)
	}
	if _, err := o.Repos(t.Context(), origin.Page{N: 10}); err != nil {
		t.Error(err)
	}
	if err := o.DeleteManifest(t.Context(), repo(t, "a"), origin.ByDigest(img.Digest())); err != nil {
		t.Error(err)
	}
	equal(t, scopes, []string{
		"repository:a:pull,push", "repository:a:pull",
		"repository:b:pull,push + repository:a:pull", "registry:catalog:*", "repository:a:pull,delete,*",
	})
}

// inBubble is a client of a handler without a network.
func inBubble(t *testing.T, h http.HandlerFunc) *remote.Origin {
	t.Helper()
	f := &far{t: t, Server: &httptest.Server{URL: "http://registry.test"}}
	return f.origin(func(o *remote.Options) { o.Network.RoundTripper = handled{h} })
}

// handled answers requests with a handler.
type handled struct{ http.Handler }

func (h handled) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), r.Body.Close()
}
