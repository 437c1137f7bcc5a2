package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/origintest"
)

// secured is a weir whose public side is TLS.
type secured struct {
	t       testing.TB
	files   mtlstest.Files
	servers *mtlstest.Authority
	clients *mtlstest.Authority
	log     *logBuffer
	address string
	socket  string
}

// startTLS runs weir with TLS on TCP and a unix socket; more are further keys of server.
// Where auth is "" clients are not asked for certificates.
func startTLS(t testing.TB, auth, more string) *secured {
	t.Helper()
	s := &secured{
		t: t, files: mtlstest.NewFiles(t), servers: mtlstest.NewAuthority(t, "servers"), clients: mtlstest.NewAuthority(t, "clients"),
		log: &logBuffer{changed: make(chan struct{})},
	}
	s.files.PutPair(t, s.servers.Issue(t, mtlstest.Server()))
	mtlstest.Put(t, s.files.ClientCA, s.clients.CertificatePEM())
	dir, err := os.MkdirTemp("", "weir") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s.socket = filepath.Join(dir, "s")
	file := filepath.Join(dir, "weir.yaml")
	clients := ""
	if auth != "" {
		clients = fmt.Sprintf(", client_ca: '%s', client_auth: %s", s.files.ClientCA, auth)
	}
	text := fmt.Sprintf("log: {format: json}\nserver: {listen: ['127.0.0.1:0', 'unix:%s'], tls: {certificate: '%s', key: '%s'%s}%s}\n"+
		"admin: {listen: ''}\nstore: {blobs: {filesystem: {root: '%s'}}}\nmirror: {well_known: false}\n",
		s.socket, s.files.Certificate, s.files.Key, clients, more, filepath.Join(dir, "data"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	from := configuration{files: []string{file}}
	c, err := from.load()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runServer(ctx, c, from, s.log) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("weir ended with %v", err)
		}
	})
	listening, err := s.log.entry(t.Context(), "listening")
	if err != nil {
		t.Fatal(err)
	}
	if listening["tls"] != true {
		t.Errorf("it says that it listens without TLS: %v", listening)
	}
	s.address = listening["address"].(string)
	return s
}

// client speaks a version of HTTP, over TCP or the socket, and shows a certificate if
// there is one.
func (s *secured) client(http2, unix bool, shown ...mtlstest.Pair) *http.Client {
	c := &tls.Config{RootCAs: s.servers.Pool(), ServerName: "localhost"}
	for _, p := range shown {
		c.Certificates = append(c.Certificates, p.TLS())
	}
	transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: http2, DisableCompression: true}
	if unix {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.socket)
		}
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// do asks, and gives the whole answer.
func (s *secured) do(c *http.Client, method, path string, body io.Reader, headers ...string) (*http.Response, []byte, error) {
	req, err := http.NewRequest(method, "https://"+s.address+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp, b, err
}

// push pushes a blob in one request, in chunks if its length is not told.
func (s *secured) push(c *http.Client, repo string, blob []byte, chunked bool) error {
	resp, b, err := s.do(c, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("POST: %v %s %w", resp, b, err)
	}
	at := resp.Header.Get("Location")
	at += map[bool]string{true: "&", false: "?"}[strings.Contains(at, "?")] + "digest=" + digest.FromBytes(blob).String()
	var body io.Reader = bytes.NewReader(blob)
	if chunked {
		body = io.MultiReader(body)
	}
	resp, b, err = s.do(c, http.MethodPut, at, body, "Content-Type", "application/octet-stream")
	if err != nil || resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("PUT: %v %s %w", resp, b, err)
	}
	return nil
}

// A registry over TLS is the same registry, over either version of HTTP and any
// listener, and the access log is the same.
func TestRegistryOverTLS(t *testing.T) {
	s := startTLS(t, "", "")
	for i, x := range []struct{ http2, unix bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		t.Run(fmt.Sprintf("http2 %v unix %v", x.http2, x.unix), func(t *testing.T) {
			c := s.client(x.http2, x.unix)
			blob, repo := origintest.Bytes(uint64(i), 3<<20), fmt.Sprintf("team/app%d", i)
			for _, chunked := range []bool{false, true} {
				if err := s.push(c, repo, blob, chunked); err != nil {
					t.Fatal(err)
				}
			}
			path := "/v2/" + repo + "/blobs/" + digest.FromBytes(blob).String()
			resp, got, err := s.do(c, http.MethodGet, path, nil)
			if err != nil || !bytes.Equal(got, blob) {
				t.Errorf("pulled %d bytes, %v", len(got), err)
			}
			if x.http2 != (resp != nil && resp.ProtoMajor == 2) {
				t.Errorf("%v", resp)
			}
			if resp, got, err = s.do(c, http.MethodGet, path, nil, "Range", "bytes=1000000-1999999"); err != nil ||
				resp.StatusCode != http.StatusPartialContent || !bytes.Equal(got, blob[1000000:2000000]) {
				t.Errorf("range: %v, %d bytes, %v", resp, len(got), err)
			}
		})
	}
	if line, err := s.log.entry(t.Context(), "request"); err != nil || line["route"] == "" || line["status"] == nil {
		t.Errorf("%v, %v", line, err)
	}
}

// server.http2: false takes effect, and nothing else than TLS is spoken.
func TestWithoutHTTP2(t *testing.T) {
	s := startTLS(t, "optional", ", http2: false")
	resp, _, err := s.do(s.client(true, false), http.MethodGet, "/v2/", nil)
	if err != nil || resp.ProtoMajor != 1 || resp.TLS.NegotiatedProtocol == "h2" {
		t.Errorf("%v, %v", resp, err)
	}
	plain, err := http.Get("http://" + s.address + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Body.Close() }()
	if plain.StatusCode != http.StatusBadRequest {
		t.Errorf("plain text: %d", plain.StatusCode)
	}
}

// client_auth: required holds on every listener.
func TestCertificateRequired(t *testing.T) {
	s := startTLS(t, "required", "")
	ann := s.clients.Issue(t, mtlstest.Client("ann"))
	for _, unix := range []bool{false, true} {
		if resp, _, err := s.do(s.client(true, unix), http.MethodGet, "/v2/", nil); err == nil {
			t.Errorf("unix %v: without a certificate: %d", unix, resp.StatusCode)
		}
		if resp, _, err := s.do(s.client(true, unix, ann), http.MethodGet, "/v2/", nil); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("unix %v: with one: %v, %v", unix, resp, err)
		}
	}
}

// Once clients may say who they are, being on this machine says nothing any more.
func TestCertificatesEndLoopbackTrust(t *testing.T) {
	s := startTLS(t, "optional", "")
	ann := s.clients.Issue(t, mtlstest.Client("ann"))
	for c, want := range map[*http.Client]int{
		s.client(true, false): http.StatusUnauthorized, s.client(true, true): http.StatusUnauthorized, s.client(true, false, ann): http.StatusForbidden,
	} {
		resp, b, err := s.do(c, http.MethodPost, "/v2/team/app/blobs/uploads/", nil)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%v %s, %v, want %d", resp, b, err, want)
		}
	}
}

// Certificates change under load, through a moment in which certificate and key do not
// go together, and no request fails; connections stay.
func TestCertificatesChangeUnderLoad(t *testing.T) {
	s := startTLS(t, "", "")
	blob := origintest.Bytes(1, 300<<10)
	if err := s.push(s.client(true, false), "team/app", blob, false); err != nil {
		t.Fatal(err)
	}
	path := "/v2/team/app/blobs/" + digest.FromBytes(blob).String()
	var (
		load     sync.WaitGroup
		over     = make(chan struct{})
		requests atomic.Int64
	)
	for i := range 6 {
		load.Go(func() {
			c := s.client(i%2 == 0, false)
			for {
				select {
				case <-over:
					return
				default:
				}
				resp, got, err := s.do(c, http.MethodGet, path, nil)
				if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, blob) {
					t.Errorf("%v, %d bytes, %v", resp, len(got), err)
					return
				}
				requests.Add(1)
				if i >= 4 {
					c.CloseIdleConnections() // these shake hands each time
				}
			}
		})
	}
	shown := func() string {
		conn, err := tls.Dial("tcp", s.address, &tls.Config{RootCAs: s.servers.Pool(), ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	stays := s.client(true, false)
	if _, _, err := s.do(stays, http.MethodGet, "/v2/", nil); err != nil {
		t.Error(err)
	}
	for i := range 2 {
		next := s.servers.Issue(t, mtlstest.Server())
		mtlstest.Put(t, s.files.Certificate, next.CertificatePEM())
		eventually(t, "it is said that they do not go together", func() bool {
			_ = shown()
			return strings.Count(s.log.String(), "changed certificates not taken up") == i+1
		})
		mtlstest.Put(t, s.files.Key, next.KeyPEM(t))
		eventually(t, "the new one is shown", func() bool { return shown() == next.Leaf.SerialNumber.String() })
	}
	resp, _, err := s.do(stays, http.MethodGet, "/v2/", nil)
	if err != nil || resp.TLS.PeerCertificates[0].SerialNumber.Int64() != 2 {
		t.Errorf("the old connection: %v", err)
	}
	close(over)
	load.Wait()
	t.Logf("%d requests", requests.Load())
}

// The log names no part of a key, and says once what is wrong with changed files.
func TestBrokenFilesDoNotStart(t *testing.T) {
	files := mtlstest.NewFiles(t)
	ca := mtlstest.NewAuthority(t, "ca")
	files.PutPair(t, ca.Issue(t, mtlstest.Server()))
	c := config.Default()
	c.Server.TLS = config.TLS{Certificate: files.Certificate, Key: files.Key}
	c.Server.Listen = config.Addresses{{Network: "tcp", Addr: "127.0.0.1:0"}}
	c.Admin.Listen = config.Address{}
	c.Store.Blobs.Filesystem.Root = t.TempDir()
	c.Store.Metadata = c.Store.Blobs
	mtlstest.Put(t, files.Key, ca.KeyPEM(t)) // it broke after it was examined
	log := &logBuffer{changed: make(chan struct{})}
	if err := runServer(t.Context(), c, configuration{}, log); err == nil || !strings.Contains(err.Error(), "private key does not match") {
		t.Errorf("it started: %v", err)
	}
	if strings.Contains(log.String(), `"listening"`) {
		t.Error("it listened")
	}
}

// What comes over TLS is under the rules for browsers as well.
func TestCrossSiteOverTLS(t *testing.T) {
	s := startTLS(t, "optional", "")
	for _, headers := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}} {
		resp, b, err := s.do(s.client(true, false), http.MethodPost, "/v2/team/app/blobs/uploads/", nil, headers...)
		if err != nil || resp.StatusCode != http.StatusForbidden || !json.Valid(b) || !strings.Contains(string(b), "another site") {
			t.Errorf("%s: %v %s, %v", headers, resp, b, err)
		}
	}
}
