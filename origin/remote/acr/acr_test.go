package acr_test

import (
	"encoding/base64"
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
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/acr"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
)

const host = "team.azurecr.io"

// azure is a registry, Entra ID and a machine's metadata, without a network.
type azure struct {
	mu      sync.Mutex
	life    time.Duration // of a refresh token
	fail    string        // the request that fails begins so
	status  int           // with that
	body    string
	expires int // the status of the registry once a token is not good
	issued  int // refresh tokens
	log     []string
}

func (a *azure) set(f func()) { a.mu.Lock(); defer a.mu.Unlock(); f() }

func (a *azure) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.log
	a.log = nil
	return l
}

func (a *azure) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	rec := httptest.NewRecorder()
	form := url.Values{}
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		_ = r.Body.Close()
		if form, err = url.ParseQuery(string(b)); err != nil {
			return nil, err
		}
	}
	a.answer(rec, r, form)
	line := fmt.Sprintf("%s %s%s %d", r.Method, r.URL.Host, r.URL.Path, rec.Code)
	if len(form) > 0 {
		line += " " + form.Encode()
	}
	if r.URL.RawQuery != "" {
		line += " " + r.URL.RawQuery
	}
	a.log = append(a.log, line)
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}

func (a *azure) answer(w http.ResponseWriter, r *http.Request, form url.Values) {
	at := r.Method + " " + r.URL.Host + r.URL.Path
	refresh := "canary-refresh." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"jti":"%d","exp":%d}`, a.issued, time.Now().Add(a.life).Unix())) + ".x"
	switch {
	case a.fail != "" && strings.HasPrefix(at, a.fail):
		w.Header().Set("Location", "https://elsewhere.example/")
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
	case r.URL.Host == "169.254.169.254":
		if r.Header.Get("Metadata") != "true" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, `{"access_token":"canary-entra"}`)
	case r.URL.Host == "login.microsoftonline.com", r.URL.Host == "login.chinacloudapi.cn":
		_, _ = io.WriteString(w, `{"access_token":"canary-entra"}`)
	case r.URL.Path == "/oauth2/exchange":
		a.issued++
		_, _ = fmt.Fprintf(w, `{"refresh_token":%q}`, strings.Replace(refresh, "canary-refresh", fmt.Sprint("canary-refresh", a.issued), 1))
	case r.URL.Path == "/oauth2/token":
		if !strings.HasPrefix(form.Get("refresh_token"), fmt.Sprint("canary-refresh", a.issued, ".")) {
			w.WriteHeader(a.expires)
			return
		}
		_, _ = fmt.Fprintf(w, `{"access_token":"canary-access%d","expires_in":60}`, a.issued)
	case r.Header.Get("Authorization") != fmt.Sprint("Bearer canary-access", a.issued):
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+host+`/oauth2/token",service="`+host+`",scope="repository:x:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func open(t *testing.T, a *azure, env map[string]string) (*remote.Registry, origin.Repo) {
	t.Helper()
	at := &url.URL{Scheme: "https", Host: host}
	network := egress.Network{RoundTripper: a}
	r, err := remote.New(remote.Options{
		URL: at, Network: network,
		Login: acr.New(acr.Options{
			Registry: at, Client: egress.New(egress.Options{URL: at, Network: network}),
			Entra: func(u *url.URL, proxied bool) *egress.Client {
				if proxied == (u.Hostname() == "169.254.169.254") {
					t.Errorf("%s proxied: %t", u.Host, proxied)
				}
				return egress.New(egress.Options{URL: u, Network: network})
			},
			Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	x, err := origin.ParseRepo("x")
	if err != nil {
		t.Fatal(err)
	}
	return r, x
}

// Who weir is comes from where Azure's own clients have it from.
func TestIdentities(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("canary-proof\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const managed = "GET 169.254.169.254/metadata/identity/oauth2/token 200 api-version=2018-02-01&"
	const resource = "resource=https%3A%2F%2Fcontainerregistry.azure.net"
	const scope = "&scope=https%3A%2F%2Fcontainerregistry.azure.net%2F.default"
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"managed":             {nil, managed + resource},
		"managed, of several": {map[string]string{"AZURE_CLIENT_ID": "me"}, managed + "client_id=me&" + resource},
		"a secret": {
			map[string]string{"AZURE_CLIENT_ID": "me", "AZURE_TENANT_ID": "corp", "AZURE_CLIENT_SECRET": "s", "AZURE_FEDERATED_TOKEN_FILE": file},
			"POST login.microsoftonline.com/corp/oauth2/v2.0/token 200 client_id=me&client_secret=s&grant_type=client_credentials" + scope,
		},
		"workload identity": {
			map[string]string{
				"AZURE_CLIENT_ID": "me", "AZURE_TENANT_ID": "corp", "AZURE_FEDERATED_TOKEN_FILE": file,
				"AZURE_AUTHORITY_HOST": "https://login.chinacloudapi.cn",
			},
			"POST login.chinacloudapi.cn/corp/oauth2/v2.0/token 200 client_assertion=canary-proof" +
				"&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_id=me&grant_type=client_credentials" + scope,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &azure{life: 3 * time.Hour}
			r, x := open(t, a, test.env)
			if _, err := r.Stat(t.Context(), x, digest.FromString("b")); err != nil {
				t.Fatal(err)
			}
			got := a.take()
			if len(got) != 5 || got[1] != test.want {
				t.Errorf("requests\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), test.want)
			}
			if want := "POST team.azurecr.io/oauth2/exchange 200 access_token=canary-entra&grant_type=access_token&service=team.azurecr.io"; got[2] != want {
				t.Errorf("%s, want %s", got[2], want)
			}
			if !strings.HasPrefix(got[3], "POST team.azurecr.io/oauth2/token 200 client_id=weir&grant_type=refresh_token&refresh_token=canary-refresh1.") ||
				!strings.HasSuffix(got[3], "&scope=repository%3Ax%3Apull&service=team.azurecr.io") {
				t.Error(got[3])
			}
		})
	}
}

// short is a request without what it holds.
func short(lines []string) []string {
	var out []string
	for _, line := range lines {
		f := strings.Fields(line)
		out = append(out, strings.Join(f[:3], " "))
	}
	return out
}

// A refresh token serves until shortly before it lapses, or until the token server
// refuses it.
func TestTokens(t *testing.T) {
	d := digest.FromString("b")
	stat := "HEAD team.azurecr.io/v2/x/blobs/" + d.String()
	exchange := []string{"GET 169.254.169.254/metadata/identity/oauth2/token 200", "POST team.azurecr.io/oauth2/exchange 200"}
	const buy = "POST team.azurecr.io/oauth2/token 200"
	for _, expires := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		t.Run(fmt.Sprint(expires), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &azure{life: 3 * time.Hour, expires: expires}
				r, x := open(t, a, nil)
				step := func(after time.Duration, want ...string) {
					t.Helper()
					time.Sleep(after)
					if _, err := r.Stat(t.Context(), x, d); err != nil {
						t.Error(err)
					}
					if got := short(a.take()); !slices.Equal(got, want) {
						t.Errorf("requests\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
					}
				}
				step(0, "GET team.azurecr.io/v2/ 401", exchange[0], exchange[1], buy, stat+" 200")
				step(time.Hour, buy, stat+" 200")
				step(time.Hour+45*time.Minute, exchange[0], exchange[1], buy, stat+" 200")
				a.set(func() { a.issued++ })
				refused := fmt.Sprint("POST team.azurecr.io/oauth2/token ", expires)
				want := []string{refused}
				if expires == http.StatusUnauthorized { // as of servers that have no POST
					want = append(want, "GET team.azurecr.io/oauth2/token 401")
				}
				step(time.Hour, append(want, exchange[0], exchange[1], buy, stat+" 200")...)
			})
		})
	}
}

func TestServicesAway(t *testing.T) {
	d := digest.FromString("b")
	for _, at := range []string{"GET 169.254", "POST team.azurecr.io/oauth2/exchange"} {
		for name, spoil := range map[string]func(*azure){
			"503": func(a *azure) { a.status = 503 },
			"400": func(a *azure) {
				a.status, a.body = 400, `{"error":"invalid_request","error_description":"canary-entra"}`
			},
			"403":      func(a *azure) { a.status, a.body = 403, `{"error":"canary entra"}` },
			"redirect": func(a *azure) { a.status = 307 },
			"empty":    func(a *azure) { a.status, a.body = 200, `{}` },
			"no JSON":  func(a *azure) { a.status, a.body = 200, `canary` },
			"endless":  func(a *azure) { a.status, a.body = 200, strings.Repeat(" ", 1<<20) },
		} {
			t.Run(at+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a := &azure{life: 3 * time.Hour, fail: at}
					spoil(a)
					r, x := open(t, a, nil)
					_, err := r.Stat(t.Context(), x, d)
					e, ok := errors.AsType[*origin.UpstreamError](err)
					if !ok || e.Status != 0 || e.Denied() || e.NotThere() || !errors.Is(err, login.ErrService) {
						t.Errorf("%+v", err)
					}
					if said := fmt.Sprintf("%v %+v %#v", err, err, r); strings.Contains(said, "canary") {
						t.Error(said)
					}
					if name == "400" && !strings.Contains(err.Error(), "invalid_request") {
						t.Errorf("it says too little: %v", err)
					}
					for _, line := range a.take() {
						if strings.Contains(line, "elsewhere") {
							t.Error(line)
						}
					}
					a.set(func() { a.fail = "" })
					time.Sleep(time.Second)
					if _, err := r.Stat(t.Context(), x, d); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

func TestMisconfigured(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"no such file": {"AZURE_CLIENT_ID": "me", "AZURE_TENANT_ID": "corp", "AZURE_FEDERATED_TOKEN_FILE": "/nonexistent"},
		"no URL":       {"AZURE_CLIENT_ID": "me", "AZURE_TENANT_ID": "corp", "AZURE_CLIENT_SECRET": "s", "AZURE_AUTHORITY_HOST": "corp"},
		"no metadata":  {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "file:///etc"},
	} {
		a := &azure{}
		r, x := open(t, a, env)
		if _, err := r.Stat(t.Context(), x, digest.FromString("b")); !errors.Is(err, login.ErrService) {
			t.Errorf("%s: %v", name, err)
		}
		if got := short(a.take()); len(got) != 1 {
			t.Errorf("%s: %q", name, got)
		}
	}
}
