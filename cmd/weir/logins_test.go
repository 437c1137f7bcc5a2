package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// cloud is the token services of three clouds, on one port. Whatever it gives is a
// canary.
func cloud(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".GetAuthorizationToken"):
			if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") ||
				!strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/ecr/") {
				t.Errorf("ECR is asked with %q", r.Header.Get("Authorization"))
			}
			_, _ = fmt.Fprintf(w, `{"authorizationData":[{"authorizationToken":%q}]}`, base64.StdEncoding.EncodeToString([]byte("AWS:canary-ecr")))
		case r.URL.Path == "/google":
			_, _ = io.WriteString(w, `{"access_token":"canary-gcr","expires_in":3600,"token_type":"Bearer"}`)
		case r.URL.Path == "/metadata/identity/oauth2/token":
			_, _ = io.WriteString(w, `{"access_token":"canary-entra","expires_in":"3600"}`)
		default:
			t.Errorf("a service is asked for %s", r.URL)
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// serviceAccount writes a key of Google's, whose tokens are had at that address.
func serviceAccount(t *testing.T, file, tokens string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "weir@example.iam.gserviceaccount.com", "token_uri": tokens,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// weir itself, told no more than where credentials are, pulls from registries that
// want them, and says none of them.
func TestCredentialsFromTheirServices(t *testing.T) {
	services, dir := cloud(t), t.TempDir()
	docker, google, ecr, azure := remotetest.New(t), remotetest.New(t), remotetest.New(t), remotetest.New(t)
	docker.Basic("canary-user", "canary-docker")
	google.Bearer(remotetest.Bearer{Username: "oauth2accesstoken", Password: "canary-gcr", Own: true})
	ecr.Basic("AWS", "canary-ecr")
	const nobody = "00000000-0000-0000-0000-000000000000"
	azure.Bearer(remotetest.Bearer{Username: nobody, Password: "canary-acr", Own: true})
	azure.Fault("POST /oauth2/exchange", remotetest.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		if err := r.ParseForm(); err != nil || r.PostForm.Get("access_token") != "canary-entra" {
			t.Errorf("the exchange is asked with %v, %v", r.PostForm, err)
		}
		_, _ = io.WriteString(w, `{"refresh_token":"canary-acr"}`)
		return true
	}))
	serviceAccount(t, filepath.Join(dir, "google.json"), services.URL+"/google")
	if err := os.WriteFile(filepath.Join(dir, "config.json"), fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`,
		docker.Host(), base64.StdEncoding.EncodeToString([]byte("canary-user:canary-docker"))), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"HOME": dir, "DOCKER_CONFIG": dir,
		"GOOGLE_APPLICATION_CREDENTIALS": filepath.Join(dir, "google.json"),
		"AWS_ENDPOINT_URL_ECR":           services.URL, "AWS_REGION": "eu-west-1",
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "canary-aws", "AWS_CA_BUNDLE": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_PROFILE": "",
		"AZURE_CLIENT_ID": "", "AZURE_TENANT_ID": "", "AZURE_POD_IDENTITY_AUTHORITY_HOST": services.URL,
	} {
		t.Setenv(name, value)
	}
	var mirror strings.Builder
	mirror.WriteString("  upstreams:\n")
	all := map[string]*remotetest.Upstream{"docker": docker, "gcr": google, "ecr": ecr, "acr": azure}
	for credentials, u := range all {
		u.AddImage("x", "1", []byte("layer"))
		fmt.Fprintf(&mirror, "    - name: from-%s.io\n      public: true\n      endpoints: [{url: '%s', credentials: %s}]\n", credentials, u.URL(), credentials)
	}
	p := newProcess(t, t.TempDir(), mirror.String())
	p.start()
	for credentials, u := range all {
		if lines := u.Requests(); lines != nil {
			t.Errorf("%s: asked before it is needed: %q", credentials, lines)
		}
		resp, err := p.client.Get("http://" + p.public + "/v2/from-" + credentials + ".io/x/manifests/1")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d after %q", credentials, resp.StatusCode, u.Requests())
		}
	}
	p.stop()
	p.saidNothingBad()
	said, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(said), "canary") {
		t.Errorf("weir said\n%s", said)
	}
}
