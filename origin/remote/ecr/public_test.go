package ecr_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/ecr"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// gallery is public.ecr.aws with its token server, and the service of AWS that gives
// logins for it.
type gallery struct {
	mu  sync.Mutex
	log []string
}

func (g *gallery) Do(r *http.Request) (*http.Response, error) { return g.RoundTrip(r) }

func (g *gallery) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log = append(g.log, strings.TrimSpace(fmt.Sprintf("%s %s%s %s", r.Method, r.URL.Host, r.URL.Path, r.Header.Get("X-Amz-Target"))))
	user, password, _ := r.BasicAuth()
	switch {
	case r.URL.Host != "public.ecr.aws":
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = fmt.Fprintf(w, `{"authorizationData":{"authorizationToken":%q,"expiresAt":%d}}`,
			base64.StdEncoding.EncodeToString([]byte("AWS:canary")), time.Now().Add(12*time.Hour).Unix())
	case r.URL.Path == "/token/" && user == "AWS" && password == "canary":
		_, _ = io.WriteString(w, `{"token":"granted"}`)
	case r.Header.Get("Authorization") != "Bearer granted":
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// The public registry has a service of its own, in one region wherever weir runs, whose
// login its token server takes.
func TestPublic(t *testing.T) {
	setenv(t)
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("AWS_ENDPOINT_URL_ECR_PUBLIC", "")
	g := &gallery{}
	r, err := remote.New(remote.Options{
		URL: &url.URL{Scheme: "https", Host: "public.ecr.aws"}, Login: ecr.New("public.ecr.aws", g), Network: egress.Network{RoundTripper: g},
	})
	if err != nil {
		t.Fatal(err)
	}
	x, err := origin.ParseRepo("x/y")
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("b")
	for range 2 {
		if _, err := r.Stat(t.Context(), x, d); err != nil {
			t.Fatal(err)
		}
	}
	stat := "HEAD public.ecr.aws/v2/x/y/blobs/" + d.String()
	want := []string{
		"GET public.ecr.aws/v2/",
		"POST api.ecr-public.us-east-1.amazonaws.com/ SpencerFrontendService.GetAuthorizationToken",
		"GET public.ecr.aws/token/", stat, stat,
	}
	if !slices.Equal(g.log, want) {
		t.Errorf("requests\n\t%s\nwant\n\t%s", strings.Join(g.log, "\n\t"), strings.Join(want, "\n\t"))
	}
}
