package ui_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/ui"
)

// limited is an answer whose deadline is known.
type limited struct {
	*httptest.ResponseRecorder
	mu sync.Mutex
	at time.Time
}

func (l *limited) SetWriteDeadline(at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = at
	return nil
}

func (l *limited) deadline() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

// unread is a body that nobody is to read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, errors.New("no")
}

// A form with files in the body of a GET is not read: they would be kept on the disk.
func TestBodiesOfPagesAreNotRead(t *testing.T) {
	r := newRig(t)
	for _, path := range pages() {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut} {
			req := httptest.NewRequestWithContext(t.Context(), method, path, unread{t})
			req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
			r.handler.ServeHTTP(httptest.NewRecorder(), req)
		}
	}
}

// Whoever takes no byte of a page, or of a file, is cut; a stream over HTTP/2 has no
// deadline while there is nothing to say.
func TestPagesArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *ui.Options) { o.Stall = time.Minute })
		for _, path := range pages() {
			w := &limited{ResponseRecorder: httptest.NewRecorder()}
			r.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
			if left := time.Until(w.deadline()); left != time.Minute {
				t.Errorf("%s: %v", path, left)
			}
		}
		w := &limited{ResponseRecorder: httptest.NewRecorder()}
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ui/activity/stream", nil)
		req.ProtoMajor = 2
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.handler.ServeHTTP(w, req)
		}()
		for range 20 {
			time.Sleep(time.Second)
			synctest.Wait()
			if at := w.deadline(); !at.IsZero() {
				t.Errorf("a stream that waits ends in %v", time.Until(at))
			}
		}
		r.pages.Close()
		<-ended
	})
}

// One visitor does not take all the places of those who look on.
func TestStreamsOfOneVisitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		look := func(who authz.Identity) (w *httptest.ResponseRecorder) {
			w = httptest.NewRecorder()
			ctx := origin.WithRequest(t.Context(), &origin.Request{Principal: who})
			go r.handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/ui/activity/stream", nil))
			synctest.Wait()
			return w
		}
		from := func(ip string) authz.Identity {
			return authz.Identity{Method: authz.MethodNone, Client: authz.Client{IP: netip.MustParseAddr(ip)}}
		}
		ann := authz.Identity{ID: "basic:ann", Client: from("192.0.2.1").Client}
		for _, who := range []authz.Identity{from("192.0.2.1"), ann} {
			for range 16 {
				if w := look(who); w.Code != http.StatusOK {
					t.Fatalf("%v: %d", who, w.Code)
				}
			}
			if w := look(who); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
				t.Errorf("%v once more: %d", who, w.Code)
			}
		}
		if w := look(from("192.0.2.2")); w.Code != http.StatusOK {
			t.Errorf("another one: %d", w.Code)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if w := look(ann); w.Code != http.StatusOK {
			t.Errorf("after all have ended: %d", w.Code)
		}
		r.pages.Close()
	})
}

// seen keeps what a password was checked with.
type seen struct{ r *http.Request }

func (s *seen) Authenticate(r *http.Request) (authz.Identity, error) {
	s.r = r
	return authz.Identity{}, authz.ErrNone
}

// A password is checked as one that came from where the browser is, not from the proxy
// before us; and other credentials of the request have no say in it.
func TestSignInComesFromTheBrowser(t *testing.T) {
	checked := &seen{}
	r := newRig(t, func(o *ui.Options) { o.SignIn.Password = checked })
	form := url.Values{"username": {"ann"}, "password": {"x"}}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/ui/login", strings.NewReader(form.Encode()))
	req.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "X-Forwarded-For": {"192.0.2.7"}, "Authorization": {"Bearer x", "Bearer y"}}
	r.handler.ServeHTTP(httptest.NewRecorder(), req)
	name, given, _ := checked.r.BasicAuth()
	if name != "ann" || given != "x" || len(checked.r.Header["Authorization"]) != 1 || checked.r.Header.Get("X-Forwarded-For") != "192.0.2.7" || checked.r.RemoteAddr != req.RemoteAddr {
		t.Errorf("checked with %v", checked.r.Header)
	}
}
