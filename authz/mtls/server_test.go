package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/mtls"
	"github.com/weir-registry/weir/authz/mtls/mtlstest"
)

// scene is a server that says who asks, and the authorities around it.
type scene struct {
	t       *testing.T
	servers *mtlstest.Authority
	clients *mtlstest.Authority
	files   mtlstest.Files
	server  *mtls.Server
	url     string
	failed  []error
}

func newScene(t *testing.T, required bool) *scene {
	t.Helper()
	s := &scene{t: t, servers: mtlstest.NewAuthority(t, "servers"), clients: mtlstest.NewAuthority(t, "clients"), files: mtlstest.NewFiles(t)}
	s.files.PutPair(t, s.servers.Issue(t, mtlstest.Server()))
	mtlstest.Put(t, s.files.ClientCA, s.clients.CertificatePEM())
	var err error
	s.server, err = mtls.Open(mtls.Options{
		Certificate: s.files.Certificate, Key: s.files.Key, ClientCA: s.files.ClientCA,
		Required: required, HTTP2: true, Failed: func(err error) { s.failed = append(s.failed, err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{
		TLSConfig: s.server.Config(), ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, err := authz.Chain{s.server}.Authenticate(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusUnauthorized)
				return
			}
			_, _ = io.WriteString(w, who.ID)
		}),
	}
	go func() { _ = h.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = h.Close() })
	s.url = "https://" + l.Addr().String() + "/"
	return s
}

// client shows a certificate, and believes the server's authority.
func (s *scene) client(shown ...mtlstest.Pair) *http.Client {
	c := &tls.Config{RootCAs: s.servers.Pool(), ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	for _, p := range shown {
		// Also to a server that asks for those of other authorities.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair := p.TLS()
			return &pair, nil
		}
	}
	return s.with(c)
}

func (s *scene) with(c *tls.Config) *http.Client {
	transport := &http.Transport{TLSClientConfig: c}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ask gives what a client was told, and whether it came over a connection that was
// there, and over a session that was resumed.
func (s *scene) ask(c *http.Client) (status int, said string, reused, resumed bool, err error) {
	s.t.Helper()
	ctx := httptrace.WithClientTrace(s.t.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", false, false, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(b)), reused, resp.TLS.DidResume, err
}

// S-11: who is refused in the handshake, and who is let in.
func TestHandshakes(t *testing.T) {
	optional, required := newScene(t, false), newScene(t, true)
	upstream := mtlstest.NewAuthority(t, "upstream")
	alike := mtlstest.NewAuthority(t, "clients") // another one of that name
	issue := func(s *scene, change func(*x509.Certificate)) mtlstest.Pair {
		c := mtlstest.Client("ann")
		change(c)
		return s.clients.Issue(t, c)
	}
	same := func(*x509.Certificate) {}
	lapsed := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	early := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }
	ofServer := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	nameless := func(c *x509.Certificate) { c.Subject = pkix.Name{} }
	const refused, ann = "", "mtls:CN=clients:CN=ann"
	for name, x := range map[string]struct {
		s     *scene
		shown []mtlstest.Pair
		want  string // refused, or what is said
		code  int
	}{
		"none, none is required":       {optional, nil, "", 200},
		"none, one is required":        {required, nil, refused, 0},
		"good":                         {optional, []mtlstest.Pair{issue(optional, same)}, ann, 200},
		"good, one is required":        {required, []mtlstest.Pair{issue(required, same)}, ann, 200},
		"of an upstream's authority":   {optional, []mtlstest.Pair{upstream.Issue(t, mtlstest.Client("ann"))}, refused, 0},
		"of one of the same name":      {optional, []mtlstest.Pair{alike.Issue(t, mtlstest.Client("ann"))}, refused, 0},
		"of the server's authority":    {optional, []mtlstest.Pair{optional.servers.Issue(t, mtlstest.Client("ann"))}, refused, 0},
		"of nobody but itself":         {optional, []mtlstest.Pair{upstream.Pair}, refused, 0},
		"lapsed":                       {optional, []mtlstest.Pair{issue(optional, lapsed)}, refused, 0},
		"not valid yet":                {optional, []mtlstest.Pair{issue(optional, early)}, refused, 0},
		"of a server":                  {optional, []mtlstest.Pair{issue(optional, ofServer)}, refused, 0},
		"that names nobody":            {optional, []mtlstest.Pair{issue(optional, nameless)}, "names nobody", 401},
		"of another one, and required": {required, []mtlstest.Pair{optional.clients.Issue(t, mtlstest.Client("ann"))}, refused, 0},
	} {
		t.Run(name, func(t *testing.T) {
			code, said, _, _, err := x.s.ask(x.s.client(x.shown...))
			if code != x.code || (err == nil) != (x.code != 0) || !strings.Contains(said, x.want) || x.want == "" && said != "" {
				t.Errorf("%d %q, %v", code, said, err)
			}
			if x.code == 0 && !strings.Contains(err.Error(), "remote error: tls: ") {
				t.Errorf("it is not the server that refuses: %v", err)
			}
		})
	}
}

// S-11: old versions are refused by the server, and servers that a client may not
// believe by the client.
func TestVersionsAndServers(t *testing.T) {
	s := newScene(t, false)
	for version, good := range map[uint16]bool{
		tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true,
	} {
		_, _, _, _, err := s.ask(s.with(&tls.Config{RootCAs: s.servers.Pool(), MinVersion: version, MaxVersion: version}))
		if (err == nil) != good || !good && !strings.Contains(err.Error(), "protocol version not supported") {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
	if _, _, _, _, err := s.ask(s.with(&tls.Config{RootCAs: s.clients.Pool()})); !isType[x509.UnknownAuthorityError](err) {
		t.Errorf("a server of another authority: %v", err)
	}
	if resp, err := http.Get("http" + strings.TrimPrefix(s.url, "https")); err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("plain text: %v, %v", resp, err)
	}
	lapsed := mtlstest.Server()
	lapsed.NotBefore, lapsed.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	s.files.PutPair(t, s.servers.Issue(t, lapsed))
	s.server.Look(time.Now())
	if _, _, _, _, err := s.ask(s.client()); !isType[x509.CertificateInvalidError](err) {
		t.Errorf("a server that lapsed: %v", err)
	}
	s.files.PutPair(t, s.servers.Issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "127.0.0.1"}}))
	s.server.Look(time.Now())
	if _, _, _, _, err := s.ask(s.client()); !isType[x509.HostnameError](err) {
		t.Errorf("a server without SAN: %v", err)
	}
}

func isType[E error](err error) bool {
	_, is := errors.AsType[E](err)
	return is
}

// S-11: a session is not taken up again once the authorities are others, though it was
// begun by a certificate that they believe too; a new certificate of the server ends
// none.
func TestSessionsAndAuthorities(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := newScene(t, false)
			next := mtlstest.NewAuthority(t, "next")
			ann := s.clients.Issue(t, mtlstest.Client("ann")).TLS()
			c := s.with(&tls.Config{
				RootCAs: s.servers.Pool(), ClientSessionCache: tls.NewLRUClientSessionCache(8),
				MinVersion: version, MaxVersion: version,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &ann, nil },
			})
			anew := func() (code int, resumed bool, err error) {
				c.CloseIdleConnections()
				code, _, _, resumed, err = s.ask(c)
				return code, resumed, err
			}
			want := func(what string, resumes, served bool) {
				t.Helper()
				code, resumed, err := anew()
				if resumed != resumes || (err == nil && code == 200) != served {
					t.Errorf("%s: %d, resumed %v, %v", what, code, resumed, err)
				}
			}
			want("first", false, true)
			want("again", true, true)
			s.files.PutPair(t, s.servers.Issue(t, mtlstest.Server()))
			s.server.Look(time.Now())
			want("with another certificate of the server", true, true)
			mtlstest.Put(t, s.files.ClientCA, append(next.CertificatePEM(), s.clients.CertificatePEM()...))
			s.server.Look(time.Now())
			want("with one more authority", false, true)
			want("and again", true, true)
			mtlstest.Put(t, s.files.ClientCA, next.CertificatePEM())
			s.server.Look(time.Now())
			want("with another authority", false, false)
			want("and again", false, false)
			if len(s.failed) > 0 {
				t.Error(s.failed)
			}
		})
	}
}

// A connection outlives its authority and its certificate; who showed it does not.
func TestConnectionOutlivesCertificate(t *testing.T) {
	s := newScene(t, false)
	c := s.client(s.clients.Issue(t, mtlstest.Client("ann")))
	want := func(what string, wantCode int, wantReused bool) {
		t.Helper()
		code, said, reused, _, err := s.ask(c)
		if err != nil || code != wantCode || reused != wantReused {
			t.Errorf("%s: %d %q, reused %v, %v", what, code, said, reused, err)
		}
	}
	want("first", 200, false)
	want("again", 200, true)
	mtlstest.Put(t, s.files.ClientCA, mtlstest.NewAuthority(t, "next").CertificatePEM())
	s.server.Look(time.Now())
	want("its authority is gone", 401, true)
	mtlstest.Put(t, s.files.ClientCA, s.clients.CertificatePEM())
	s.server.Look(time.Now())
	want("its authority is back", 200, true)
	s.server.At(time.Now().Add(2 * time.Hour))
	want("it lapsed", 401, true)
}

// Changed files that do not load, or not together, change nothing, and it is said.
func TestFilesThatDoNotGoTogether(t *testing.T) {
	s := newScene(t, true)
	c := s.client(s.clients.Issue(t, mtlstest.Client("ann")))
	other := s.servers.Issue(t, mtlstest.Server())
	for i, change := range []func(){
		func() { mtlstest.Put(t, s.files.Certificate, other.CertificatePEM()) }, // and the key is not there yet
		func() { mtlstest.Put(t, s.files.Certificate, nil) },
		func() { mtlstest.Put(t, s.files.Certificate, []byte("nothing")) },
		func() {
			s.files.PutPair(t, other)
			mtlstest.Put(t, s.files.ClientCA, nil)
		},
		func() { mtlstest.Put(t, s.files.ClientCA, []byte("-----BEGIN CERTIFICATE-----\n")) },
		func() { mtlstest.Put(t, s.files.ClientCA, other.KeyPEM(t)) },
		func() {
			mtlstest.Put(t, s.files.ClientCA, append(s.clients.CertificatePEM(), "-----BEGIN CERTIFICATE-----\nMII\n"...))
		},
	} {
		change()
		s.server.Look(time.Now())
		c.CloseIdleConnections()
		if code, said, _, _, err := s.ask(c); err != nil || code != 200 {
			t.Errorf("change %d: %d %q, %v", i, code, said, err)
		}
		if len(s.failed) != i+1 || !strings.Contains(s.failed[i].Error(), filepath.Dir(s.files.Key)) {
			t.Errorf("change %d: told of %v", i, s.failed)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	ca := mtlstest.NewAuthority(t, "ca")
	good, other := ca.Issue(t, mtlstest.Server()), ca.Issue(t, mtlstest.Server())
	file := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		mtlstest.Put(t, path, text)
		return path
	}
	cert, key := file("cert", good.CertificatePEM()), file("key", good.KeyPEM(t))
	for name, o := range map[string]mtls.Options{
		"no files":      {},
		"no key":        {Certificate: cert, Key: filepath.Join(dir, "none")},
		"another's key": {Certificate: cert, Key: file("other", other.KeyPEM(t))},
		"no authority":  {Certificate: cert, Key: key, ClientCA: file("empty", nil)},
		"a key as one":  {Certificate: cert, Key: key, ClientCA: key},
		"not there":     {Certificate: cert, Key: key, ClientCA: filepath.Join(dir, "none")},
	} {
		if s, err := mtls.Open(o); err == nil {
			t.Errorf("%s: opened %v", name, s)
		}
	}
	s, err := mtls.Open(mtls.Options{Certificate: cert, Key: key})
	if err != nil || s.Identifies() {
		t.Fatalf("without client_ca: %v, identifies %v", err, s.Identifies())
	}
	if got := s.Config().NextProtos; !slices.Equal(got, []string{"http/1.1"}) {
		t.Errorf("without HTTP/2: %q", got)
	}
}
