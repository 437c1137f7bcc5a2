package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store/mem"
)

// behind is somebody else's registry, which wants a password and can be away.
type behind struct {
	*local.Registry
	url  string
	away atomic.Bool
}

func newBehind(t testing.TB, username, password string) *behind {
	t.Helper()
	reg, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	b := &behind{Registry: reg}
	h := serve.New(reg, serve.Options{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, p, _ := r.BasicAuth()
		switch {
		case b.away.Load():
			panic(http.ErrAbortHandler)
		case u != username || p != password:
			w.Header().Set("WWW-Authenticate", `Basic realm="behind"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			h.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	b.url = s.URL
	return b
}

// A weir in front of another registry fills it, finds there after a restart what it put
// there, hands pushes on, and goes on pulling through while it is away.
func TestSidecar(t *testing.T) {
	const password = "a password to be kept"
	b := newBehind(t, "weir", password)
	u := remotetest.New(t)
	img := u.AddImage("library/nginx", "1.27", bytes.Repeat([]byte("x"), 100<<10), bytes.Repeat([]byte("y"), 1000))
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := hub(u, "") + fmt.Sprintf("origin: {url: '%s', prefix: proj/ect, username: weir, password_file: '%s'}\n", b.url, file)
	r := start(t, "", config)
	pull(t, r, img, "docker.io/library/nginx", "1.27")
	manifest := origin.ByDigest(img.Digest)
	there := origintest.Repo(t, "proj/ect/docker.io/library/nginx")
	eventually(t, "the image is there", func() bool {
		_, err := b.Resolve(t.Context(), there, manifest)
		return err == nil
	})
	pushed := origintest.Image([]byte(`{}`), bytes.Repeat([]byte("z"), 200<<10))
	for _, blob := range pushed.Blobs {
		begun := r.do(http.MethodPost, "/v2/team/app/blobs/uploads/", nil)
		if begun.status != http.StatusAccepted {
			t.Fatalf("begin: %d %s", begun.status, begun.body)
		}
		at := begun.header.Get("Location")
		if a := r.do(http.MethodPatch, at, bytes.NewReader(blob.Bytes)); a.status != http.StatusAccepted {
			t.Errorf("send: %d %s", a.status, a.body)
		}
		if a := r.do(http.MethodPut, at+"?digest="+blob.Digest.String(), nil); a.status != http.StatusCreated {
			t.Errorf("end: %d %s", a.status, a.body)
		}
	}
	if a := r.do(http.MethodPut, "/v2/team/app/manifests/v1", bytes.NewReader(pushed.Manifest.Bytes), "Content-Type", pushed.Manifest.MediaType); a.status != http.StatusCreated {
		t.Errorf("manifest: %d %s", a.status, a.body)
	}
	origintest.CheckManifest(t, b, "proj/ect/team/app", "v1", pushed.Manifest)
	r.end()

	// The upstream is not asked again, and nothing of the image is on this disk.
	again := start(t, r.data, config)
	before := len(u.Requests())
	pull(t, again, img, "docker.io/library/nginx", "1.27")
	if n := len(u.Requests()); n != before {
		t.Errorf("after a restart: %v", u.Requests()[before:])
	}
	if blobs, err := filepath.Glob(filepath.Join(r.data, "blobs", "*", "*", "*")); err != nil || len(blobs) != 0 {
		t.Errorf("%d blobs here, %v", len(blobs), err)
	}

	b.away.Store(true)
	pull(t, again, img, "docker.io/library/nginx", "1.27")
	if u.Count("/blobs/"+img.Config.Digest.String()) != 2 {
		t.Errorf("the upstream was asked\n%s", strings.Join(u.Requests(), "\n"))
	}
	if a := again.get("/v2/team/app/manifests/v1"); a.status != http.StatusBadGateway || a.code() != "UNAVAILABLE" {
		t.Errorf("what was pushed: %d %s", a.status, a.body)
	}
	if got := again.adminStatus("/readyz"); got != http.StatusOK {
		t.Errorf("readyz: %d", got)
	}
	eventually(t, "it is counted", func() bool {
		return !strings.Contains(again.metrics(), `weir_fills_total{result="unstored"} 0`)
	})
	again.end()
	for _, log := range []string{r.log.String(), again.log.String()} {
		if strings.Contains(log, password) {
			t.Error("the password is in the log")
		}
	}
}
