package remote_test

import (
	"bytes"
	_ "crypto/sha512" // what a digest of that name needs
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

func TestManifestThatIsNotWhatItShouldBe(t *testing.T) {
	tests := map[string]struct {
		fault    remotetest.Fault
		byDigest bool
		mismatch bool
	}{
		"first byte flipped by tag":    {fault: remotetest.Flip(0), mismatch: true},
		"first byte flipped by digest": {fault: remotetest.Flip(0), byDigest: true, mismatch: true},
		"last byte flipped":            {fault: remotetest.Flip(100), byDigest: true, mismatch: true},
		"cut at the beginning":         {fault: remotetest.Cut(0)},
		"cut half way":                 {fault: remotetest.Cut(100)},
		"wrong digest header":          {fault: remotetest.WrongDigest(), mismatch: true},
		"wrong digest header, good content": {
			fault: remotetest.WrongDigest(), byDigest: true, mismatch: true,
		},
		"no digest header":          {fault: remotetest.Header("Docker-Content-Digest", "none"), mismatch: true},
		"gzip":                      {fault: remotetest.Gzip()},
		"html":                      {fault: remotetest.HTML()},
		"html as a manifest":        {fault: body(v1.MediaTypeImageManifest, "<!DOCTYPE html>")},
		"an error with 200":         {fault: body("application/json", `{"errors":[{"code":"UNKNOWN"}]}`)},
		"nothing":                   {fault: body(v1.MediaTypeImageManifest, "")},
		"larger than 4 MiB":         {fault: body(v1.MediaTypeImageManifest, "{}"+strings.Repeat(" ", 4<<20))},
		"no content":                {fault: status(http.StatusNoContent)},
		"not modified":              {fault: status(http.StatusNotModified)},
		"part of it":                {fault: status(http.StatusPartialContent)},
		"redirect to nowhere":       {fault: status(http.StatusFound)},
		"redirect to a file":        {fault: remotetest.Redirect("file:///etc/passwd")},
		"redirect to itself":        {fault: remotetest.Redirect("?")},
		"header larger than 64 KiB": {fault: remotetest.Header("X-Large", strings.Repeat("x", 65<<10))},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			img := u.AddImage("x", "1", []byte("layer"))
			undo := u.Fault("GET /v2/x/manifests/", test.fault)
			r, x, want := open(t, u.URL()), repo(t, "x"), ref(t, "1")
			if test.byDigest {
				want = origin.ByDigest(img.Digest)
			}
			m, err := r.Manifest(t.Context(), x, want)
			if e := upstreamError(t, err); !e.Outage() || !errors.Is(err, origin.ErrUnavailable) {
				t.Error(err)
			}
			if m.Bytes != nil || m.Digest != "" {
				t.Errorf("given all the same: %q", m.Bytes)
			}
			client, _ := errors.AsType[*origin.Error](err)
			if client.HTTPStatus() != http.StatusBadGateway {
				t.Errorf("the client is told %d", client.HTTPStatus())
			}
			if says := client.Message == "upstream sent content that does not match its digest"; says != test.mismatch {
				t.Errorf("the client is told %q", client.Message)
			}
			undo()
			if m, err := r.Manifest(t.Context(), x, want); err != nil || !bytes.Equal(m.Bytes, img.Bytes) {
				t.Errorf("asked again: %q, %v", m.Bytes, err)
			}
		})
	}
}

func body(mediaType, s string) remotetest.Fault {
	return remotetest.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", mediaType)
		_, _ = io.WriteString(w, s)
		return true
	})
}

func status(code int) remotetest.Fault {
	return remotetest.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(code)
		return true
	})
}

func TestManifestMediaType(t *testing.T) {
	const index, image = `{"schemaVersion":2,"manifests":[]}`, `{"schemaVersion":2}`
	docker := `{"schemaVersion":2,"mediaType":"` + origin.MediaTypeDockerList + `","manifests":[]}`
	tests := []struct{ header, body, want string }{
		{v1.MediaTypeImageManifest, image, v1.MediaTypeImageManifest},
		{v1.MediaTypeImageManifest + "; charset=utf-8", image, v1.MediaTypeImageManifest},
		{strings.ToUpper(v1.MediaTypeImageManifest), image, v1.MediaTypeImageManifest},
		{"application/vnd.example+json", image, "application/vnd.example+json"},
		{"application/json", docker, origin.MediaTypeDockerList},
		{"text/plain; charset=utf-8", docker, origin.MediaTypeDockerList},
		{"application/octet-stream", index, v1.MediaTypeImageIndex},
		{"application/octet-stream", image, v1.MediaTypeImageManifest},
	}
	for _, test := range tests {
		u := remotetest.New(t)
		u.AddManifest("x", test.header, []byte(test.body), "1")
		r := open(t, u.URL())
		for name, ask := range map[string]func() (origin.Descriptor, error){
			"Resolve": func() (origin.Descriptor, error) { return r.Resolve(t.Context(), repo(t, "x"), ref(t, "1")) },
			"Manifest": func() (origin.Descriptor, error) {
				m, err := r.Manifest(t.Context(), repo(t, "x"), ref(t, "1"))
				return m.Descriptor, err
			},
		} {
			if d, err := ask(); err != nil || d.MediaType != test.want || d.Size != int64(len(test.body)) {
				t.Errorf("%s of %s as %s: %+v, %v", name, test.body, test.header, d, err)
			}
		}
	}
}

func TestManifestOfSHA512(t *testing.T) {
	u := remotetest.New(t)
	d := u.AddManifestAs(digest.SHA512, "x", v1.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`), "1")
	r, x := open(t, u.URL()), repo(t, "x")
	for _, by := range []origin.Ref{ref(t, "1"), origin.ByDigest(d.Digest)} {
		if m, err := r.Manifest(t.Context(), x, by); err != nil || m.Digest != d.Digest {
			t.Errorf("%s: %s, %v", by, m.Digest, err)
		}
	}
	u.Fault("/manifests/", remotetest.Flip(3))
	if _, err := r.Manifest(t.Context(), x, ref(t, "1")); !upstreamError(t, err).Outage() {
		t.Error(err)
	}
}

func TestResolveFallsBackToGET(t *testing.T) {
	for name, test := range map[string]struct {
		fault remotetest.Fault
		head  int
		tag   bool // only a tag needs the GET
	}{
		"405":           {remotetest.Status(405), 405, false},
		"501":           {remotetest.Status(501), 501, false},
		"no digest":     {remotetest.Header("Docker-Content-Digest", ""), 200, true},
		"no length":     {remotetest.NoLength(), 200, false},
		"no media type": {remotetest.Header("Content-Type", "application/octet-stream"), 200, false},
	} {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			img := u.AddImage("x", "1")
			u.Fault("HEAD /v2/x/manifests/", test.fault)
			r, x := open(t, u.URL()), repo(t, "x")
			for _, by := range []origin.Ref{ref(t, "1"), origin.ByDigest(img.Digest)} {
				u.Take()
				d, err := r.Resolve(t.Context(), x, by)
				if err != nil || d.Digest != img.Digest || d.Size != img.Size || d.MediaType != img.MediaType {
					t.Errorf("%s: %+v, %v", by, d, err)
				}
				if got := u.Count("GET /v2/x/manifests/" + by.String()); (got == 0) != (test.tag && by.Tag() == "") {
					t.Errorf("%s: %d GETs", by, got)
				}
			}
		})
	}
	u := remotetest.New(t)
	img := u.AddImage("x", "1")
	u.Fault("HEAD", remotetest.WrongDigest())
	if _, err := open(t, u.URL()).Resolve(t.Context(), repo(t, "x"), origin.ByDigest(img.Digest)); !upstreamError(t, err).Outage() {
		t.Error(err)
	}
}
