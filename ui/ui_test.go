package ui_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/ui"
	"github.com/weir-registry/weir/ui/view"
)

// rig is the pages over a fake, as somebody's browser sees them.
type rig struct {
	t        *testing.T
	shown    *fake
	opts     ui.Options
	handler  http.Handler
	pages    *ui.UI
	cookies  map[string]*http.Cookie
	identity authz.Identity // found out by whoever stands before the pages
}

const password = "correct horse"

// people knows ann by her password.
type people struct{}

func (people) Authenticate(r *http.Request) (authz.Identity, error) {
	name, given, ok := r.BasicAuth()
	switch {
	case !ok:
		return authz.Identity{}, authz.ErrNone
	case name == "busy":
		return authz.Identity{}, authz.ErrUnavailable
	case name != "ann" || given != password:
		return authz.Identity{}, authz.ErrNone
	}
	return authz.Identity{ID: "basic:ann", Username: "ann", Groups: []string{"dev"}, Method: authz.MethodBasic}, nil
}

// corp is a provider.
type corp struct {
	who  authz.Identity
	err  error
	at   string            // its issuer is there
	keep map[string]string // what it was asked
}

func (*corp) Name() string { return "corp" }

func (c *corp) Issuer() string { return "https://corp.example" + c.at }

func (c *corp) Begin(_ context.Context, redirect, state, nonce, verifier string) (string, error) {
	c.keep = map[string]string{"redirect": redirect, "state": state, "nonce": nonce, "verifier": verifier}
	return "https://corp.example/auth?" + url.Values{"state": {state}}.Encode(), c.err
}

func (c *corp) Finish(_ context.Context, redirect, code, nonce, verifier string) (authz.Identity, error) {
	if redirect != c.keep["redirect"] || nonce != c.keep["nonce"] || verifier != c.keep["verifier"] || code != "the code" {
		return authz.Identity{}, authz.ErrRejected
	}
	return c.who, c.err
}

func newRig(t *testing.T, change ...func(*ui.Options)) *rig {
	t.Helper()
	r := &rig{t: t, shown: &fake{text: "plain"}, cookies: map[string]*http.Cookie{}}
	r.opts = ui.Options{Title: "weir", Shown: r.shown, SignIn: ui.SignIn{
		Password: people{}, Key: func(context.Context) ([]byte, error) { return bytes.Repeat([]byte{7}, 32), nil },
		Stamp: func(id string) (string, bool) { return "1", id == "basic:ann" },
	}}
	for _, c := range change {
		c(&r.opts)
	}
	pages, err := ui.New(r.opts)
	if err != nil {
		t.Fatal(err)
	}
	r.pages, r.handler = pages, ui.Headers(pages)
	return r
}

// do asks for a page as the browser would that has the cookies of answers before.
func (r *rig) do(method, target string, form url.Values) *httptest.ResponseRecorder {
	r.t.Helper()
	return r.doAs(method, target, form, r.cookies)
}

func (r *rig) doAs(method, target string, form url.Values, cookies map[string]*http.Cookie) *httptest.ResponseRecorder {
	r.t.Helper()
	req := httptest.NewRequestWithContext(r.t.Context(), method, target, strings.NewReader(form.Encode()))
	req = req.WithContext(origin.WithRequest(req.Context(), &origin.Request{Principal: r.identity}))
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, c := range cookies {
		if strings.HasPrefix(req.URL.Path, c.Path) {
			req.AddCookie(c)
		}
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	for _, c := range w.Result().Cookies() {
		if cookies[c.Name] = c; c.MaxAge < 0 {
			delete(cookies, c.Name)
		}
	}
	return w
}

func (r *rig) get(target string) *httptest.ResponseRecorder { return r.do(http.MethodGet, target, nil) }

func (r *rig) who() string {
	text := r.get("/ui/me").Body.String()
	if _, rest, ok := strings.Cut(text, `<code class="break">`); ok {
		id, _, _ := strings.Cut(rest, "<")
		return id
	}
	return ""
}

func (r *rig) signIn(name, given string) *httptest.ResponseRecorder {
	return r.do(http.MethodPost, "/ui/login", url.Values{"username": {name}, "password": {given}, "to": {"/ui/why"}})
}

// pages are all that there are, but for the stream.
func pages() []string {
	const at = "name=team/app&digest=sha256:0123456789012345678901234567890123456789012345678901234567890123"
	return []string{
		"/ui/", "/ui/repository?name=team/app", "/ui/image?name=team/app&tag=v1", "/ui/image?" + at, "/ui/manifest?" + at, "/ui/blob?" + at, "/ui/delete?" + at,
		"/ui/activity", "/ui/why?image=a", "/ui/me?repository=a", "/ui/config", "/ui/login", "/ui/nothing", "/ui/static/style.css", "/ui/static/nothing",
	}
}

// Every route that is got is among pages, but for those that say nothing of content.
func TestPagesAreAll(t *testing.T) {
	for _, route := range ui.Routes() {
		method, path, _ := strings.Cut(route, " ")
		path = strings.NewReplacer("{$}", "", "{file}", "style.css").Replace(path)
		switch {
		case method != http.MethodGet, path == "/ui/activity/stream", path == "/ui/login/provider", path == "/ui/login/callback":
		case !slices.ContainsFunc(pages(), func(p string) bool { p, _, _ = strings.Cut(p, "?"); return p == path }):
			t.Errorf("%s is not among the pages", path)
		}
	}
}

// Every answer has what keeps a browser from doing what is not meant, whatever it says.
func TestHeaders(t *testing.T) {
	r := newRig(t)
	check := func(what string, w *httptest.ResponseRecorder) {
		h := w.Header()
		policy := h.Get("Content-Security-Policy")
		for _, bad := range []string{"unsafe", "*", "data:", "http:", "https:"} {
			if strings.Contains(policy, bad) {
				t.Errorf("%s: policy %q", what, policy)
			}
		}
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%s: policy %q", what, policy)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") == "" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", what, h)
		}
	}
	for _, page := range pages() {
		check(page, r.get(page))
	}
	r.shown.err = errors.New("broken")
	for _, page := range pages() {
		check(page, r.get(page))
	}
}

// Whatever content says, and wherever, a page has no element, attribute or script of it: it
// has the elements that it has where all content says "plain". What is downloaded is never
// a page.
func TestContentIsText(t *testing.T) {
	for _, evil := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `javascript:alert(1)`, `</title><svg onload=alert(1)>`,
		`{{.}}`, "--><b>", `</textarea><iframe src="//evil">`, "\"\x00<b>", `&lt;script&gt;`, "`${alert(1)}`", `//evil.example/`,
	} {
		plain, r := newRig(t), newRig(t)
		r.shown.text = evil
		r.identity = authz.Identity{ID: evil, Username: evil, Groups: []string{evil}, Method: authz.MethodOIDC}
		plain.identity = authz.Identity{ID: "plain", Username: "plain", Groups: []string{"plain"}, Method: authz.MethodOIDC}
		for _, page := range pages() {
			got, want := r.get(page), plain.get(page)
			if missing := strings.HasSuffix(page, "nothing"); got.Code != want.Code || (want.Code == http.StatusOK) == missing {
				t.Errorf("%s with %q: %d, else %d", page, evil, got.Code, want.Code)
			}
			if kind := got.Header().Get("Content-Type"); kind == "application/octet-stream" {
				if !strings.HasPrefix(got.Header().Get("Content-Disposition"), "attachment") || !strings.Contains(got.Header().Get("Content-Security-Policy"), "sandbox") {
					t.Errorf("%s: %v", page, got.Header())
				}
				continue
			}
			if g, w := elements(t, got.Body), elements(t, want.Body); !slices.Equal(g, w) {
				t.Errorf("%s with %q has\n%v, not\n%v", page, evil, g, w)
			}
		}
	}
}

// A manifest is indented where that costs no more than it is worth: not one that is
// brackets in brackets, nor one that is as deep as manifests may be, all over.
func TestManifestIsBounded(t *testing.T) {
	nested := func(depth int, element string) string {
		head, tail := `{"schemaVersion":2,"x":`+strings.Repeat("[", depth)+"0", strings.Repeat("]", depth)+"}"
		return head + strings.Repeat(","+element, (256<<10-len(head)-len(tail))/(len(element)+1)) + tail
	}
	for what, c := range map[string]struct {
		raw  string
		want string
	}{
		"small":          {`{"schemaVersion":2,"layers":[]}`, "{\n  &#34;schemaVersion&#34;: 2,\n"},
		"nested":         {nested(9000, "0"), "[[[["},
		"as deep":        {nested(60, `{"":0,"":0}`), "[[[["},
		"large":          {strings.Repeat(" ", 300<<10) + "{}", "Show its beginning"},
		"no JSON at all": {"\xff<b>", "\uFFFD&lt;b&gt;"},
	} {
		r := newRig(t)
		r.shown.raw = c.raw
		var page string
		took := allocated(func() { page = r.get("/ui/image?name=team/app&tag=v1").Body.String() })
		if len(page) > 2<<20 || took > 128<<20 || !strings.Contains(page, c.want) {
			t.Errorf("%s: %d bytes, and %d on the way, for %d; or no %q", what, len(page), took, len(c.raw), c.want)
		}
	}
}

// An image whose lists are as long as they are shown has a page; one whose texts are none
// that people read has not, and costs little more than those texts.
func TestPagesAreBounded(t *testing.T) {
	r := newRig(t)
	r.shown.many = 1000
	if w := r.get("/ui/image?name=team/app&tag=v1"); w.Code != http.StatusOK || w.Body.Len() > 2<<20 || !strings.Contains(w.Body.String(), "the first thousand entries") || !strings.Contains(w.Body.String(), "at least 8.8 KiB in 1000 layers") {
		t.Errorf("%d, %d bytes", w.Code, w.Body.Len())
	}
	r.shown.text = strings.Repeat("'", 256<<10) // five times as long in HTML
	for _, page := range []string{"/ui/image?name=team/app&tag=v1", "/ui/why?image=a", "/ui/activity"} {
		var w *httptest.ResponseRecorder
		took := allocated(func() { w = r.get(page) })
		if w.Code != http.StatusUnprocessableEntity || w.Body.Len() > 10<<10 || took > 128<<20 || !strings.Contains(w.Body.String(), "</html>") {
			t.Errorf("%s: %d, %d bytes, and %d on the way", page, w.Code, w.Body.Len(), took)
		}
	}
}

// allocated is how many bytes do allocates, and all else that runs.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// elements are the elements of a page, each with the names of its attributes, and with the
// scheme of where it leads.
func elements(t *testing.T, text io.Reader) (list []string) {
	t.Helper()
	d := xml.NewDecoder(text)
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		token, err := d.Token()
		if err != nil {
			return list
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		var element strings.Builder
		element.WriteString(e.Name.Local)
		for _, a := range e.Attr {
			element.WriteString(" " + a.Name.Local)
			if a.Name.Local == "href" || a.Name.Local == "src" || a.Name.Local == "action" {
				if u, err := url.Parse(a.Value); err != nil || u.Scheme != "" || u.Host != "" {
					t.Errorf("<%s> leads to %q", element.String(), a.Value)
				}
			}
		}
		list = append(list, element.String())
	}
}

// A delete is a POST that says what in its form; asking for it shows a question.
func TestDelete(t *testing.T) {
	r := newRig(t)
	r.signIn("ann", password)
	if w := r.get("/ui/delete?name=team/app&tag=v1"); w.Code != http.StatusOK || len(r.shown.deleted) > 0 || !strings.Contains(w.Body.String(), "Delete") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := r.do(http.MethodPost, "/ui/delete?name=team/app&tag=v1", url.Values{}); w.Code != http.StatusBadRequest || len(r.shown.deleted) > 0 {
		t.Errorf("by its address alone: %d, %v", w.Code, r.shown.deleted)
	}
	w := r.do(http.MethodPost, "/ui/delete", url.Values{"name": {"team/app"}, "tag": {"v1"}})
	if want := []string{"basic:ann team/app v1"}; w.Code != http.StatusSeeOther || !slices.Equal(r.shown.deleted, want) || w.Header().Get("Location") != "/ui/repository?name=team%2Fapp" {
		t.Errorf("%d %v %v", w.Code, w.Header(), r.shown.deleted)
	}
	r.shown.err = origin.ErrDenied
	if w := r.do(http.MethodPost, "/ui/delete", url.Values{"name": {"team/app"}, "tag": {"v1"}}); w.Code != http.StatusForbidden {
		t.Errorf("denied: %d", w.Code)
	}
}

// What is wrong is a page without a secret; what nobody may know of it is in the log.
func TestErrors(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{
		{origin.ErrNameUnknown, 404, "Not found"},
		{origin.ErrUnauthorized, 401, "/ui/login?to="},
		{origin.ErrDenied, 403, "Not for you"},
		{errors.New("secret path"), 500, "internal error"},
	} {
		r.shown.err = c.err
		w := r.get("/ui/repository?name=team/app")
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || strings.Contains(w.Body.String(), "secret path") {
			t.Errorf("%v: %d %s", c.err, w.Code, w.Body)
		}
	}
}

// A script that searches gets the list alone.
func TestFragments(t *testing.T) {
	r := newRig(t)
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ui/?search=a", nil)
	req.Header.Set("HX-Request", "true")
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	if text := w.Body.String(); strings.Contains(text, "<html") || !strings.Contains(text, "<table") || w.Header().Get("Vary") != "HX-Request" {
		t.Errorf("%s", text)
	}
}

// The stream says how fills get on when it has changed, keeps the connection when it has
// not, and ends: by itself, or with the server.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		size, begun := int64(100), time.Now()
		r.shown.fills = func() []view.Fill {
			got := min(size, 50*int64(time.Since(begun)/time.Second))
			return []view.Fill{{Repository: "team/app", Digest: r.shown.digest(), Size: &size, Received: got}}
		}
		w := &flushed{ResponseRecorder: httptest.NewRecorder()}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ui/activity/stream", nil))
		}()
		<-ended
		if took := time.Since(begun); took != 5*time.Minute {
			t.Errorf("it lasted %v", took)
		}
		text := w.Body.String()
		if n := strings.Count(text, "event: fills\n"); n != 3 {
			t.Errorf("said %d times: %s", n, text)
		}
		for _, value := range []string{`value="0"`, `value="50"`, `value="100"`} {
			if strings.Count(text, value) != 1 {
				t.Errorf("%s is not said once", value)
			}
		}
		if n := strings.Count(text, ":\n\n"); n != 19 {
			t.Errorf("%d signs of life", n)
		}
		r.pages.Close()
		again := time.Now()
		r.handler.ServeHTTP(&flushed{ResponseRecorder: httptest.NewRecorder()}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ui/activity/stream", nil))
		if time.Since(again) > 0 {
			t.Error("it goes on after the end")
		}
	})
}

// flushed is a stream of HTTP/2: it has ended once a deadline has passed.
type flushed struct {
	*httptest.ResponseRecorder
	deadline *time.Timer
	ended    atomic.Bool
}

func (f *flushed) SetWriteDeadline(t time.Time) error {
	if f.deadline != nil {
		f.deadline.Stop()
	}
	if !t.IsZero() {
		f.deadline = time.AfterFunc(time.Until(t), func() { f.ended.Store(true) })
	}
	return nil
}

func (f *flushed) Write(p []byte) (int, error) {
	if f.ended.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	return f.ResponseRecorder.Write(p)
}
