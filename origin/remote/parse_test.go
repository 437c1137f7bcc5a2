package remote

import (
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/remote/egress"
)

func TestParseChallenge(t *testing.T) {
	tests := []struct {
		headers []string
		want    challenge
		scope   string
		ok      bool
	}{
		{[]string{`Bearer realm="https://h/token",service="s",scope="repository:x:pull"`}, challenge{"bearer", "https://h/token", "s"}, "repository:x:pull", true},
		{[]string{`bearer realm=https`}, challenge{"bearer", "https", ""}, "", true},
		{[]string{`Bearer service="s"`}, challenge{"bearer", "", "s"}, "", false},
		{[]string{`Basic realm="x"`}, challenge{scheme: "basic"}, "", true},
		{[]string{`Negotiate`, `Basic realm="x"`}, challenge{scheme: "basic"}, "", true},
		{[]string{`Negotiate`}, challenge{}, "", false},
		{[]string{`Bearer realm="https://h/\"quoted\""`}, challenge{"bearer", `https://h/"quoted"`, ""}, "", true},
		{[]string{`Bearer realm="unclosed`}, challenge{scheme: "bearer"}, "", false},
		{[]string{""}, challenge{}, "", false},
		{nil, challenge{}, "", false},
	}
	for _, test := range tests {
		c, scope, ok := parseChallenge(t.Context(), http.Header{"Www-Authenticate": test.headers})
		if c != test.want || scope != test.scope || ok != test.ok {
			t.Errorf("%q: %+v, scope %q, %t", test.headers, c, scope, ok)
		}
	}
}

func FuzzParseChallenge(f *testing.F) {
	for _, s := range []string{
		`Bearer realm="https://h/token",service="s",scope="repository:x:pull"`,
		`Basic realm="x"`, `Bearer realm="\"`, `Bearer ,,realm=,`, "Bearer\x00 realm=a", `Negotiate`,
		`Basic realm="x", Bearer realm="https://h/token"`,
	} {
		f.Add(s)
	}
	root := &url.URL{Scheme: "https", Host: "h", Path: "/v2/"}
	out := egress.New(egress.Options{URL: root})
	f.Fuzz(func(t *testing.T, s string) {
		c, scope, ok := parseChallenge(t.Context(), http.Header{"Www-Authenticate": {s}})
		again, _, _ := parseChallenge(t.Context(), http.Header{"Www-Authenticate": {s}})
		if c != again {
			t.Errorf("%+v, then %+v", c, again)
		}
		switch {
		case !ok:
			if scope != "" && c.scheme != "bearer" {
				t.Errorf("a scope %q of nothing", scope)
			}
		case c.scheme == "basic":
			if c != (challenge{scheme: "basic"}) {
				t.Errorf("%+v", c)
			}
		case c.scheme != "bearer" || c.realm == "":
			t.Errorf("%+v", c)
		}
		// Whatever is in it, a realm leads to a web server or nowhere.
		if u, err := out.Lead(root, c.realm); err == nil && (u.Scheme != "https" || u.User != nil || u.Hostname() == "") {
			t.Errorf("the realm %q leads to %s", c.realm, u)
		}
	})
}

func TestReading(t *testing.T) {
	for scope, want := range map[string]bool{
		"repository:x:pull":                          true,
		"repository:x:metadata_read":                 true,
		"repository:x:pull,metadata_read":            true,
		"repository:h:5000/x:pull repository:y:pull": true,
		"repository:x:pull,push":                     false,
		"repository:x:*":                             false,
		"repository:x:pull registry:catalog:*":       false,
		"registry:catalog:pull":                      false,
		"repository:x:":                              false,
		"":                                           false,
		"repository:" + strings.Repeat("x", 1<<10) + ":pull": false,
	} {
		if got := reading(scope); got != want {
			t.Errorf("%q: %t", scope, got)
		}
	}
}

func TestParseLink(t *testing.T) {
	tests := []struct {
		headers []string
		want    string
	}{
		{[]string{`</v2/x/tags/list?last=b&n=2>; rel="next"`}, "/v2/x/tags/list?last=b&n=2"},
		{[]string{`<a>;rel=next`}, "a"},
		{[]string{`<a>; rel="prev"`, `<b>; rel="next"`}, "b"},
		{[]string{`<a>; rel="prev", <b>; rel="next"`}, "b"},
		{[]string{`<a,b>; title="x, <c>; rel=next"; REL="last NEXT"`}, "a,b"},
		{[]string{`<a>; title="\"; rel=next"`}, ""},
		{[]string{`<a>; rel="prev"; rel="next"`}, ""},
		{[]string{`<a>`}, ""},
		{[]string{`<a>; rel=nextish`}, ""},
		{[]string{`<a; rel="next"`}, ""},
		{[]string{`a; rel="next"`}, ""},
		{[]string{`<a>; rel`}, ""},
		{[]string{`<a>; rel="next`}, ""},
		{nil, ""},
	}
	for _, test := range tests {
		if got, ok := ParseLink(test.headers); got != test.want && ok || ok != (test.want != "") {
			t.Errorf("%q: %q, %t", test.headers, got, ok)
		}
	}
}

func FuzzParseLink(f *testing.F) {
	for _, s := range []string{
		`</v2/x/tags/list?last=b&n=2>; rel="next"`, `<a>; rel="prev", <b>; rel="next"`, `<>;rel=next`,
		`<a>; title="x, <c>; rel=next"; REL="last NEXT"`, `<//evil/v2/x/tags/list?n=1>; rel=next`, `<`, `;`, `<a>;=`,
		`<http://u:p@h/v2/x/tags/list?a>; rel=next`, "<\x7f>;rel=next",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, ok := ParseLink([]string{s})
		if ok && (!strings.Contains(s, "<"+target+">") || !strings.Contains(strings.ToLower(s), "next")) {
			t.Errorf("%q out of %q", target, s)
		}
		r := &Registry{root: &url.URL{Scheme: "https", Host: "h", Path: "/v2/"}}
		page := &url.URL{Scheme: "https", Host: "h", Path: "/v2/x/tags/list", RawQuery: "n=1"}
		u, _, ok := r.next(page, http.Header{"Link": {s}})
		if ok && (u.Scheme != "https" || u.Host != "h" || u.Path != page.Path || u.User != nil || u.Fragment != "" || u.RawQuery == page.RawQuery) {
			t.Errorf("%q leads to %s", s, u)
		}
	})
}

func TestParseContentRange(t *testing.T) {
	type is struct {
		first, last, size int64
		ok                bool
	}
	for s, want := range map[string]is{
		"bytes 0-9/10":                   {0, 9, 10, true},
		"BYTES 2-3/*":                    {2, 3, -1, true},
		"bytes 0-10/10":                  {},
		"bytes 3-2/10":                   {},
		"bytes */10":                     {},
		"bytes -1-2/10":                  {},
		"bytes +1-2/10":                  {},
		"bytes 1-2":                      {},
		"items 1-2/10":                   {},
		"bytes 1-2,4-5/10":               {},
		"bytes 0-9223372036854775807/*":  {},
		"bytes 0-99999999999999999999/*": {},
		"":                               {},
	} {
		var got is
		if got.first, got.last, got.size, got.ok = parseContentRange(s); got != want {
			t.Errorf("%q: %+v", s, got)
		}
	}
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes 2-3/*", "bytes 1-2,4-5/10", "bytes -/-", "bytes 0-9223372036854775807/*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, size, ok := parseContentRange(s)
		if ok && (first < 0 || last < first || last-first == math.MaxInt64 || size != -1 && size <= last) {
			t.Errorf("%q: %d-%d/%d", s, first, last, size)
		}
	})
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"7": 7 * time.Second, " 7 ": 7 * time.Second, "0": 0, "-1": 0, "": 0, "soon": 0, "1.5": 0,
		"99999999999": 24 * time.Hour, "99999999999999999999": 0,
		"Tue, 24 Nov 2026 12:00:30 GMT": 30 * time.Second,
		"Tue, 24 Nov 2026 11:00:00 GMT": 0,
		"Wed, 24 Nov 2027 12:00:00 GMT": 24 * time.Hour,
	} {
		if got := parseRetryAfter(s, now); got != want {
			t.Errorf("%q: %s", s, got)
		}
	}
}

func TestReadToken(t *testing.T) {
	asked := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		body string
		want string
		life time.Duration // until another is had
	}{
		{`{"token":"t"}`, "t", 45 * time.Second},
		{`{"token":"t","expires_in":1}`, "t", 45 * time.Second},
		{`{"token":"t","expires_in":300}`, "t", 270 * time.Second},
		{`{"token":"t","expires_in":"300"}`, "t", 270 * time.Second},
		{`{"token":"t","expires_in":300.5}`, "t", 270*time.Second + 500*time.Millisecond},
		{`{"token":"t","expires_in":1e300}`, "t", 24*time.Hour - 30*time.Second},
		{`{"access_token":"a"}`, "a", 45 * time.Second},
		{`{"token":"t","access_token":"a"}`, "t", 45 * time.Second},
		{`{"token":""}`, "", 0},
		{`{"token":"a b"}`, "", 0},
		{`{"token":"a\u00e9"}`, "", 0},
		{`[]`, "", 0},
		{``, "", 0},
	}
	for _, test := range tests {
		got, err := readToken([]byte(test.body), asked)
		if (err != nil) != (test.want == "") || test.want != "" && got.authorization.Reveal() != "Bearer "+test.want {
			t.Errorf("%s: %v", test.body, err)
		}
		if err == nil && got.expires.Sub(asked) != test.life {
			t.Errorf("%s: for %s", test.body, got.expires.Sub(asked))
		}
	}
}

func FuzzReadToken(f *testing.F) {
	f.Add(`{"token":"t","expires_in":300}`)
	f.Add(`{"access_token":"a\r\nb","expires_in":"x"}`)
	f.Add(`{"token":"t","expires_in":-1e999}`)
	f.Fuzz(func(t *testing.T, s string) {
		now := time.Unix(1e9, 0)
		got, err := readToken([]byte(s), now)
		if err != nil {
			return
		}
		if strings.ContainsFunc(strings.TrimPrefix(got.authorization.Reveal(), "Bearer "), func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("no header can hold the token of %q", s)
		}
		if life := got.expires.Sub(now); life < minLife/2 || life > maxLife {
			t.Errorf("%q is kept for %s", s, life)
		}
	})
}
