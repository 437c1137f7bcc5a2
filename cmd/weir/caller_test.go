package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/authz/mtls/mtlstest"
)

// dockerConfig makes Docker's configuration what is given, of this test alone.
func dockerConfig(t *testing.T, text string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"HOME", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(name, dir)
	}
	t.Setenv("REGISTRY_AUTH_FILE", "")
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// weir is asked as whoever docker login left for its host, by a password and by the
// identity token in its place.
func TestCaller(t *testing.T) {
	files, authority := mtlstest.NewFiles(t), mtlstest.NewAuthority(t, "servers")
	files.PutPair(t, authority.Issue(t, mtlstest.Server()))
	mtlstest.Put(t, files.ClientCA, authority.CertificatePEM())
	data := t.TempDir()
	r := startText(t, data, fmt.Sprintf("log: {format: json}\nserver: {listen: '127.0.0.1:0', tls: {certificate: '%s', key: '%s'}}\nadmin: {listen: '127.0.0.1:0'}\n"+
		"store: {blobs: {filesystem: {root: '%s'}}}\nmirror: {upstreams: [{name: localhost:7, endpoints: [{url: 'http://127.0.0.1:1'}]}], well_known: false}\n"+
		"authz: {basic: {users: [{name: ci, hash: '%s'}]}, policy: {allow: ['identity.id == \"basic:ci\"']}}\n",
		files.Certificate, files.Key, data, basic.NewHash("secret").Text()))
	server := strings.Replace(r.url, "http:", "https:", 1)
	host := strings.TrimPrefix(server, "https://")
	ask := func(ca, path string) string {
		t.Helper()
		f := serverFlags{server, ca}
		base, client, err := f.open(&cobra.Command{}, explainTimeout, 1)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Get(base.String() + path)
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.Status
	}
	const explained, pulled = "/v2/_ext/explain?image=team/app:v1", "/v2/team/app/manifests/v1"
	mirrored := "/v2/app/manifests/v1?" + url.Values{"ns": {"localhost:7"}}.Encode()
	expect := func(what, path, want string) {
		t.Helper()
		if got := ask(files.ClientCA, path); !strings.Contains(got, want) {
			t.Errorf("%s: %s: %q, want %q", what, path, got, want)
		}
	}

	dockerConfig(t, `{}`)
	if got := ask("", explained); !strings.Contains(got, "certificate") {
		t.Errorf("without --ca: %q", got)
	}
	expect("nobody", explained, "401")
	expect("nobody", pulled, "401")

	auth := base64.StdEncoding.EncodeToString([]byte("ci:secret"))
	dockerConfig(t, fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, auth))
	expect("a password", explained, "200")
	expect("a password", pulled, "404")

	dockerConfig(t, fmt.Sprintf(`{"auths": {"elsewhere.example": {"auth": %q}}}`, auth))
	expect("of another host", explained, "401")

	base, client, err := (&serverFlags{server, files.ClientCA}).open(&cobra.Command{}, explainTimeout, 1)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base.String()+"/token?offline_token=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("ci", "secret")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Refresh string `json:"refresh_token"`
	}
	err = json.NewDecoder(res.Body).Decode(&said)
	_ = res.Body.Close()
	if err != nil || said.Refresh == "" {
		t.Fatal(res.Status, err)
	}
	identity := func(token string) string {
		return fmt.Sprintf(`{"auths": {%q: {"auth": %q, "identitytoken": %q}}}`, host, base64.StdEncoding.EncodeToString([]byte("ci:")), token)
	}
	dockerConfig(t, identity(said.Refresh))
	expect("an identity token", explained, "200")
	expect("an identity token", pulled, "404")
	expect("an identity token", "/v2/team/app/blobs/sha256:"+strings.Repeat("0", 64), "404")
	expect("an identity token", mirrored, "50") // it may be asked for, and the upstream is away
	dockerConfig(t, identity("x.y.z"))
	expect("another one", explained, "not logged in: the identity token of Docker's configuration: 401")
	dockerConfig(t, `{"auths": 7}`)
	expect("a configuration that is none", explained, "not logged in: ")
}

// Where weir redirects to is not told who asks.
func TestCallerIsLedAway(t *testing.T) {
	var seen []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = append(seen, "elsewhere "+r.Header.Get("Authorization"))
	}))
	t.Cleanup(elsewhere.Close)
	weir := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, "weir "+r.Header.Get("Authorization"))
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(weir.Close)
	auth := base64.StdEncoding.EncodeToString([]byte("ci:secret"))
	dockerConfig(t, fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, strings.TrimPrefix(weir.URL, "http://"), auth))
	_, client, err := (&serverFlags{url: weir.URL}).open(&cobra.Command{}, explainTimeout, 1)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Get(weir.URL + "/v2/a/blobs/x")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if got, want := fmt.Sprintf("%q", seen), fmt.Sprintf("%q", []string{"weir Basic " + auth, "elsewhere "}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A file of authorities that is none is an error before anything is asked.
func TestCallerCA(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bad, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ca := range []string{bad, bad + "x"} {
		if _, _, err := (&serverFlags{"https://weir.example", ca}).open(&cobra.Command{}, explainTimeout, 1); err == nil || !strings.Contains(err.Error(), ca) {
			t.Errorf("%s: %v", ca, err)
		}
	}
}
