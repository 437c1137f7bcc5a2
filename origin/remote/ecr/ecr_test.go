package ecr_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/ecr"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
	"github.com/weir-registry/weir/store"
)

const host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"

// aws is AWS's service and the registry that takes its tokens, without a network.
type aws struct {
	mu      sync.Mutex
	status  int // of the service, 0 = it is well
	body    string
	said    bool // the service says when a token lapses
	expires int  // the status of a registry whose token has lapsed
	issued  int
	until   time.Time
	log     []string
}

func (a *aws) Do(r *http.Request) (*http.Response, error) { return a.RoundTrip(r) }
func (a *aws) set(f func())                               { a.mu.Lock(); defer a.mu.Unlock(); f() }

func (a *aws) note(format string, args ...any) { a.log = append(a.log, fmt.Sprintf(format, args...)) }

func (a *aws) take() []string { a.mu.Lock(); defer a.mu.Unlock(); l := a.log; a.log = nil; return l }

func (a *aws) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.URL.Host == host {
		a.registry(rec, r)
	} else {
		a.service(rec, r)
	}
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}

func (a *aws) service(w http.ResponseWriter, r *http.Request) {
	a.note("%s %s%s %s", r.Method, r.URL.Host, r.URL.Path, r.Header.Get("X-Amz-Target"))
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if a.status != 0 {
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
		return
	}
	a.issued++
	a.until = time.Now().Add(12 * time.Hour)
	token := base64.StdEncoding.EncodeToString([]byte("AWS:" + password(a.issued)))
	expires := ""
	if a.said {
		expires = fmt.Sprintf(`,"expiresAt":%d`, a.until.Unix())
	}
	_, _ = fmt.Fprintf(w, `{"authorizationData":[{"authorizationToken":%q%s,"proxyEndpoint":"https://%s"}]}`, token, expires, host)
}

func password(n int) string { return fmt.Sprintf("canary:%d", n) }

func (a *aws) registry(w http.ResponseWriter, r *http.Request) {
	user, pw, _ := r.BasicAuth()
	status, body := http.StatusOK, ""
	switch {
	case user != "AWS":
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Basic realm="https://`+host+`/",service="ecr.amazonaws.com"`)
	case pw != password(a.issued) || !time.Now().Before(a.until):
		status = a.expires
		body = `{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}`
	}
	a.note("%s %s %d", r.Method, r.URL.Path, status)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func setenv(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "canary", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_REGION": "us-east-1",
		"AWS_CA_BUNDLE": "", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_ECR": "", "AWS_PROFILE": "",
	} {
		t.Setenv(name, value)
	}
}

func open(t *testing.T, a *aws) (*remote.Registry, origin.Repo) {
	t.Helper()
	r, err := remote.New(remote.Options{
		URL: &url.URL{Scheme: "https", Host: host}, Login: ecr.New(host, a), Network: egress.Network{RoundTripper: a},
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

const ask = "POST api.ecr.eu-central-1.amazonaws.com/ AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"

// A token serves for twelve hours less a quarter of one, and is replaced when the
// registry says 401 or 403 before that.
func TestTokens(t *testing.T) {
	setenv(t)
	d := digest.FromString("b")
	stat, get := "HEAD /v2/x/blobs/"+d.String(), "GET /v2/x/blobs/"+d.String()
	for _, expires := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		for _, said := range []bool{true, false} {
			t.Run(fmt.Sprint(expires, " ", said), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a := &aws{expires: expires, said: said}
					r, x := open(t, a)
					step := func(after time.Duration, want ...string) {
						t.Helper()
						time.Sleep(after)
						if _, err := r.Stat(t.Context(), x, d); err != nil {
							t.Error(err)
						}
						if got := a.take(); !slices.Equal(got, want) {
							t.Errorf("requests\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
						}
					}
					step(0, "GET /v2/ 401", ask, stat+" 200")
					step(time.Hour, stat+" 200")
					step(10*time.Hour+45*time.Minute-2, stat+" 200")
					step(2, ask, stat+" 200")
					// It is revoked.
					a.set(func() { a.issued++ })
					step(time.Hour, fmt.Sprint(stat, " ", expires), ask, stat+" 200")
					a.set(func() { a.issued++ })
					b, err := r.Blob(t.Context(), x, d, store.Range{})
					if err == nil || len(a.take()) != 1 {
						t.Error("within a second of the last token there is another one", err)
					}
					time.Sleep(time.Second)
					if b, err = r.Blob(t.Context(), x, d, store.Range{}); err != nil {
						t.Fatal(err)
					}
					_ = b.Body.Close()
					if got, want := a.take(), []string{fmt.Sprint(get, " ", expires), ask, get + " 200"}; !slices.Equal(got, want) {
						t.Errorf("%q, want %q", got, want)
					}
				})
			})
		}
	}
}

// Whatever the service does, it is an outage and no denial, as long as there is no
// token that still lives; and nothing of what it says or is told is shown.
func TestServiceAway(t *testing.T) {
	setenv(t)
	d := digest.FromString("b")
	for name, spoil := range map[string]func(*aws){
		"503":      func(a *aws) { a.status = 503 },
		"denied":   func(a *aws) { a.status, a.body = 400, `{"__type":"AccessDeniedException","message":"no"}` },
		"403":      func(a *aws) { a.status = 403 },
		"empty":    func(a *aws) { a.status, a.body = 200, `{}` },
		"no base":  func(a *aws) { a.status, a.body = 200, `{"authorizationData":[{"authorizationToken":"canary!"}]}` },
		"no colon": func(a *aws) { a.status, a.body = 200, `{"authorizationData":[{"authorizationToken":"Y2FuYXJ5"}]}` },
		"no JSON":  func(a *aws) { a.status, a.body = 200, `canary` },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &aws{expires: 403}
				r, x := open(t, a)
				spoil(a)
				_, err := r.Stat(t.Context(), x, d)
				e, ok := errors.AsType[*origin.UpstreamError](err)
				if !ok || e.Status != 0 || e.Denied() || e.NotThere() || !errors.Is(err, login.ErrService) {
					t.Errorf("%+v", err)
				}
				if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, r), "canary") {
					t.Error(err)
				}
				// It comes back.
				a.set(func() { a.status = 0 })
				time.Sleep(time.Second)
				if _, err := r.Stat(t.Context(), x, d); err != nil {
					t.Error(err)
				}
				// It goes away, and does no harm until the token lapses.
				spoil(a)
				time.Sleep(11*time.Hour + 59*time.Minute)
				if _, err := r.Stat(t.Context(), x, d); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute)
				if _, err := r.Stat(t.Context(), x, d); err == nil {
					t.Error("there is a token for ever")
				}
			})
		})
	}
}

func TestRegions(t *testing.T) {
	setenv(t)
	for at, want := range map[string]string{
		"123456789012.dkr.ecr.eu-central-1.amazonaws.com":       "api.ecr.eu-central-1.amazonaws.com",
		"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn":      "api.ecr.cn-north-1.amazonaws.com.cn",
		"123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com": "api.ecr-fips.us-gov-west-1.amazonaws.com",
		"123456789012.dkr-ecr.eu-west-1.on.aws":                 "api.ecr.eu-west-1.amazonaws.com",
		"123456789012.DKR.ecr.eu-central-1.amazonaws.com:443":   "api.ecr.eu-central-1.amazonaws.com",
		"mirror.corp:5000": "api.ecr.us-east-1.amazonaws.com",
		"evil.dkr.ecr.eu-central-1.amazonaws.com.evil": "api.ecr.us-east-1.amazonaws.com",
	} {
		a := &aws{}
		l, err := ecr.New(at, a).Login(t.Context())
		if err != nil || l.Username != "AWS" || l.Password.Reveal() != password(1) {
			t.Errorf("%s: %+v, %v", at, l, err)
		}
		if got := strings.Join(a.take(), ","); !strings.HasPrefix(got, "POST "+want+"/ ") {
			t.Errorf("%s: asked %q, want %s", at, got, want)
		}
	}
}
