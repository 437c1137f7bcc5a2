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
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-registry/weir/origin/remote/gcr"
	"github.com/weir-registry/weir/origin/remote/login"
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
