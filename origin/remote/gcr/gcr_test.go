package gcr_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/gcr"
	"github.com/weir-registry/weir/origin/remote/login"
	"github.com/weir-registry/weir/store"
)

type service struct {
	status int
	body   string
	asked  []string
}

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	s.asked = append(s.asked, fmt.Sprintf("%s %s %s", r.Method, r.URL, b))
	rec.Header().Set("Content-Type", "application/json")
	rec.WriteHeader(s.status)
	_, _ = io.WriteString(rec, s.body)
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}

// key writes a service account's key file.
func key(t *testing.T, file, account string) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": account, "private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   "https://oauth2.googleapis.com/token",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestServiceAccount(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.json")
	key(t, file, "weir@example.iam.gserviceaccount.com")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	s := &service{status: 200, body: `{"access_token":"canary-access","expires_in":3600,"token_type":"Bearer"}`}
	c := gcr.New(s)
	if len(s.asked) != 0 {
		t.Error("asked before it is needed")
	}
	for range 2 {
		l, err := c.Login(t.Context())
		if err != nil || l.Username != "oauth2accesstoken" || l.Password.Reveal() != "canary-access" {
			t.Fatalf("%+v, %v", l, err)
		}
	}
	if len(s.asked) != 1 || !strings.HasPrefix(s.asked[0], "POST https://oauth2.googleapis.com/token assertion=") ||
		!strings.HasSuffix(s.asked[0], "&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer") {
		t.Errorf("%q", s.asked)
	}
}

func TestServiceAway(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "key.json")
	key(t, file, "weir@example.iam.gserviceaccount.com")
	broken := filepath.Join(dir, "broken.json")
	if err := os.WriteFile(broken, []byte(`{"type":"service_account","private_key":"canary`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		file   string
		status int
		body   string
	}{
		"503":     {file, 503, "canary-answer"},
		"denied":  {file, 400, `{"error":"invalid_grant","error_description":"canary-answer"}`},
		"empty":   {file, 200, `{}`},
		"no JSON": {file, 200, `canary-answer`},
		"no file": {"/nonexistent", 200, ""},
		"broken":  {broken, 200, ""},
	} {
		t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", test.file)
		c := gcr.New(&service{status: test.status, body: test.body})
		_, err := c.Login(t.Context())
		if !errors.Is(err, login.ErrService) || strings.Contains(fmt.Sprintf("%v %+v", err, c), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The metadata server of the machine is asked where there is no file.
func TestMetadata(t *testing.T) {
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		if r.Header.Get("Metadata-Flavor") != "Google" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("Metadata-Flavor", "Google")
		if strings.HasSuffix(r.URL.Path, "/token") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"access_token":"canary-access","expires_in":3599,"token_type":"Bearer"}`)
		}
	}))
	defer s.Close()
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(s.URL, "http://"))
	defer http.DefaultClient.CloseIdleConnections()
	l, err := gcr.New(nil).Login(t.Context())
	if err != nil || l.Username != "oauth2accesstoken" || l.Password.Reveal() != "canary-access" {
		t.Fatalf("%+v, %v after %q", l, err, asked)
	}
}

const host = "europe-docker.pkg.dev"

// google is Google's service, and a registry with its token server, without a network.
type google struct {
	expires int // the status where an access token has lapsed
	issued  int // access tokens; the last one is good
	bought  int // the registry's tokens; the last one is good
	log     []string
}

func (g *google) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	rec.Header().Set("Content-Type", "application/json")
	g.answer(rec, r)
	g.log = append(g.log, fmt.Sprintf("%s %s%s %d", r.Method, r.URL.Host, r.URL.Path, rec.Code))
	resp := rec.Result()
	resp.Request = r
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return resp, nil
}

func (g *google) answer(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	switch {
	case r.URL.Host == "oauth2.googleapis.com":
		g.issued++
		_, _ = fmt.Fprintf(w, `{"access_token":"canary-access%d","expires_in":3600,"token_type":"Bearer"}`, g.issued)
	case r.URL.Path == "/v2/token" && (user != "oauth2accesstoken" || password != fmt.Sprint("canary-access", g.issued)):
		w.WriteHeader(g.expires)
		_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"the access token has expired"}]}`)
	case r.URL.Path == "/v2/token":
		g.bought++
		_, _ = fmt.Fprintf(w, `{"token":"canary-bearer%d","expires_in":3600}`, g.bought)
	case r.Header.Get("Authorization") == "":
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+host+`/v2/token",service="`+host+`"`)
		w.WriteHeader(http.StatusUnauthorized)
	case r.Header.Get("Authorization") != fmt.Sprint("Bearer canary-bearer", g.bought):
		w.WriteHeader(g.expires)
		_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"the token has expired"}]}`)
	}
}

// An access token serves for an hour less a quarter of it, and is replaced when it is
// refused with 401 or 403 before that; so is the token that it buys of the registry.
func TestTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.json")
	key(t, file, "weir@example.iam.gserviceaccount.com")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	d := digest.FromString("b")
	stat, get := "HEAD "+host+"/v2/x/blobs/"+d.String(), "GET "+host+"/v2/x/blobs/"+d.String()
	const ask, buy = "POST oauth2.googleapis.com/token 200", "GET " + host + "/v2/token"
	for _, expires := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		t.Run(fmt.Sprint(expires), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &google{expires: expires}
				r, err := remote.New(remote.Options{
					URL: &url.URL{Scheme: "https", Host: host}, Login: gcr.New(g), Network: egress.Network{RoundTripper: g},
				})
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				x, err := origin.ParseRepo("x")
				if err != nil {
					t.Fatal(err)
				}
				step := func(after time.Duration, do func() error, want ...string) {
					t.Helper()
					time.Sleep(after)
					if err := do(); err != nil {
						t.Error(err)
					}
					if !slices.Equal(g.log, want) {
						t.Errorf("requests\n\t%s\nwant\n\t%s", strings.Join(g.log, "\n\t"), strings.Join(want, "\n\t"))
					}
					g.log = nil
				}
				head := func() error { _, err := r.Stat(t.Context(), x, d); return err }
				refused := fmt.Sprint(" ", expires)
				step(0, head, "GET "+host+"/v2/ 401", ask, buy+" 200", stat+" 200")
				step(40*time.Minute, head, stat+" 200")
				// The registry's token is revoked, and then both.
				g.bought++
				step(time.Minute, head, stat+refused, buy+" 200", stat+" 200")
				g.bought, g.issued = g.bought+1, g.issued+1
				step(time.Minute, func() error {
					b, err := r.Blob(t.Context(), x, d, store.Range{})
					if err == nil {
						_ = b.Body.Close()
					}
					return err
				}, get+refused, buy+refused, ask, buy+" 200", get+" 200")
				// The one lapses with the other, an hour later.
				step(time.Hour, head, ask, buy+" 200", stat+" 200")
			})
		})
	}
}
