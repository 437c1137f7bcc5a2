package egress_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weir-registry/weir/origin/remote/egress"
)

// An http.Client over it asks as ever, and cannot be led to tell what it knows: it
// keeps Authorization over a redirect to another port.
func TestHTTPClient(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("told another port")
		}
	}))
	defer other.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/meta":
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusTemporaryRedirect)
		case "/again":
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		default:
			b, _ := io.ReadAll(r.Body)
			_, _ = io.WriteString(w, r.Method+" "+string(b)+r.Header.Get("Authorization"))
		}
	}))
	defer s.Close()
	c := egress.New(egress.Options{URL: parsed(t, s.URL)})
	defer c.Close()
	h := &http.Client{Transport: c}
	for _, test := range []struct {
		path, authorization, want string
	}{
		{"/", "", "POST body"},
		{"/", "Basic x", "POST bodyBasic x"},
		{"/again", "Basic x", "POST bodyBasic x"},
		{"/away", "", ""},
		{"/away", "Basic x", "error"},
		{"/meta", "", "error"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+test.path, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		if test.authorization != "" {
			req.Header.Set("Authorization", test.authorization)
		}
		resp, err := h.Do(req)
		if err != nil {
			if test.want != "error" {
				t.Errorf("%s: %v", test.path, err)
			}
			continue
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(b) != test.want {
			t.Errorf("%s: %q, %v", test.path, b, err)
		}
	}
}

// Not even the configured name leads to a cloud's metadata; a configured address
// does, since an operator wrote it.
func TestOwnNameLeadsToNoMetadata(t *testing.T) {
	var conns atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	network := egress.Network{Classify: func(a netip.Addr) egress.Reach {
		if a.IsLoopback() {
			return egress.Never
		}
		return egress.ReachOf(a)
	}}
	named := parsed(t, s.URL)
	named.Host = "localhost:" + named.Port()
	for at, want := range map[string]bool{s.URL: true, named.String(): false} {
		conns.Store(0)
		c := egress.New(egress.Options{URL: parsed(t, at), Network: network})
		a, err := c.Send(t.Context(), egress.Request{URL: parsed(t, at+"/")}, egress.Secret{})
		if (err == nil) != want || (conns.Load() > 0) != want {
			t.Errorf("%s: %d connections, %v", at, conns.Load(), err)
		}
		if err == nil {
			a.Discard()
		}
		c.Close()
	}
}
