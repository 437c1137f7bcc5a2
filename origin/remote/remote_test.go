package remote

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
)

func TestNew(t *testing.T) {
	for s, ok := range map[string]bool{
		"https://h": true, "http://127.0.0.1:5000/": true, "https://h/proj": true, "https://h/a/b/": true, "https://[::1]:5000": true,
		"h": false, "ftp://h": false, "https://": false, "https:h": false, "https://:5000": false,
		"https://u:canary@h": false, "https://h?q=canary": false, "https://h#canary": false,
		"https://h/Proj": false, "https://h/a//b": false, "https://h/a/../b": false, "https://h/a%2fb%00": false,
	} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = New(Options{URL: u}); (err == nil) != ok {
			t.Errorf("%s: %v", s, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", s, err)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no URL")
	}
}

func TestTokenServer(t *testing.T) {
	for _, test := range []struct {
		endpoint, realm string
		want            bool
	}{
		{"https://h", "https://h/token", true},
		{"https://h", "https://H:443/token", true},
		{"https://h:5000", "https://h:5000/token", true},
		{"http://h:5000", "http://h:5000/token", true},
		{"http://h:5000", "https://h:5000/token", true},
		{"https://registry-1.docker.io", "https://auth.docker.io/token", true},
		{"https://registry-1.docker.io", "http://auth.docker.io/token", false},
		{"https://registry-1.docker.io", "https://auth.docker.io:444/token", false},
		{"https://registry-1.docker.io", "https://auth.docker.io.evil/token", false},
		{"https://registry-1.docker.io:444", "https://auth.docker.io/token", false},
		{"https://evil", "https://auth.docker.io/token", false},
		{"https://h", "http://h:443/token", false},
		{"https://h", "https://h:5001/token", false},
		{"https://h", "https://auth.h/token", false},
		{"https://h", "https://h.evil/token", false},
	} {
		at, err := url.Parse(test.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		realm, err := url.Parse(test.realm)
		if err != nil {
			t.Fatal(err)
		}
		r, err := New(Options{URL: at})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.out.Trusts(realm); got != test.want {
			t.Errorf("%s for %s: %t", test.realm, test.endpoint, got)
		}
	}
}

// The last gate before the network: no mistake elsewhere sends a credential to
// another host.
func TestEgressRefusesCredentialsForOthers(t *testing.T) {
	r := without(t, func(*http.Request) (*http.Response, error) {
		t.Error("sent")
		return nil, http.ErrUseLastResponse
	})
	_, err := r.out.Send(t.Context(), egress.Request{URL: &url.URL{Scheme: "https", Host: "h:444", Path: "/"}}, egress.Conceal("Basic canary"))
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	u := &url.URL{Scheme: "https", Host: "h"}
	r, err := New(Options{URL: u, Login: login.Static("u", func() (string, error) { return "canary", nil })})
	if err != nil {
		t.Fatal(err)
	}
	held := token{authorization: egress.Conceal("canary"), expires: time.Now().Add(time.Hour)}
	r.keys.keep(tokenKey{}, held)
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	log.Info("x", "registry", r, "secret", egress.Conceal("canary"), "token", map[string]egress.Secret{"a": egress.Conceal("canary")})
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "registry", r, "secret", egress.Conceal("canary"))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%10.3s"} {
		fmt.Fprintf(&out, verb, egress.Conceal("canary"))
		fmt.Fprintf(&out, verb, grant{authorization: egress.Conceal("canary")})
		fmt.Fprintf(&out, verb, held)
		fmt.Fprintf(&out, verb, r)
	}
	b, err := json.Marshal(egress.Conceal("canary"))
	if err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	for _, shown := range []string{"canary", fmt.Sprintf("%x", "canary")} {
		if strings.Contains(out.String(), shown) {
			t.Errorf("%q is in %s", shown, &out)
		}
	}
}

// An upstream that sends our credential back does not get it into an error.
func TestEchoedCredentialDoesNotShow(t *testing.T) {
	r := without(t, func(req *http.Request) (*http.Response, error) {
		authorization := req.Header.Get("Authorization")
		if authorization == "" {
			return reply(req, http.StatusUnauthorized, http.NoBody, "WWW-Authenticate", "Basic realm=x"), nil
		}
		body := fmt.Sprintf(`{"errors":[{"code":"DENIED","message":"no right for %s"}]}`, authorization)
		return reply(req, http.StatusForbidden, strings.NewReader(body)), nil
	})
	r.keys.login = login.Static("u", func() (string, error) { return "canary", nil })
	_, err := r.Tags(t.Context(), parsed(t, "x"), origin.Page{N: 1})
	sent := basic(login.Login{Username: "u"}, egress.Conceal("canary"))
	if _, credential, _ := strings.Cut(sent.Reveal(), " "); err == nil || strings.Contains(err.Error(), credential) {
		t.Error(err)
	}
	if !strings.Contains(err.Error(), "DENIED") {
		t.Errorf("it says too little: %v", err)
	}
}
