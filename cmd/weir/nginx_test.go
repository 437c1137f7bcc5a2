package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/origintest"
)

// proxied is a weir behind nginx, which keeps one connection to it, over which all that
// comes to nginx goes on.
type proxied struct {
	*running
	t        *testing.T
	streamed string // where nginx passes bodies on as they come
	buffered string // where it reads them first
	balanced string // where it is told, as by a load balancer, who asks
	access   string // its log
}

// startBehindNginx has weir believe nginx.
func startBehindNginx(t *testing.T) *proxied {
	t.Helper()
	data, dir := t.TempDir(), t.TempDir()
	p := &proxied{t: t, streamed: freeAddr(t), buffered: freeAddr(t), balanced: freeAddr(t), access: filepath.Join(dir, "access.log")}
	p.running = startText(t, data, "log: {format: json}\nserver: {listen: '127.0.0.1:0', trusted_proxies: [127.0.0.1/32]}\nadmin: {listen: '127.0.0.1:0'}\n"+
		"store: {blobs: {filesystem: {root: '"+data+"'}}}\nmirror: {well_known: false}\n"+
		"authz: {policy: {default: allow, deny: ['request.repository.startsWith(\"own/\") && identity.client_ip != \"203.0.113.5\"']}}\n")
	server := func(listen, buffering, more string) string {
		return fmt.Sprintf(`
  server {
    listen %s;%s
    location / {
      proxy_pass http://weir;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_request_buffering %s;
    }
  }`, listen, more, buffering)
	}
	// Who is silent for a second there is done with: see raw.
	const hasty = `
    keepalive_timeout 1s;
    client_header_timeout 1s;
    client_body_timeout 1s;`
	text := fmt.Sprintf(`daemon off;
user root;
worker_processes 1;
pid %[1]s/pid;
error_log stderr;
events { worker_connections 256; }
http {
  log_format asked '$request_method $request_uri $upstream_status';
  access_log %[1]s/access.log asked;
  client_max_body_size 0;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  upstream weir { server %[2]s; keepalive 1; }
  set_real_ip_from 127.0.0.1;
  real_ip_header proxy_protocol;%[3]s%[4]s%[5]s
}
`, dir, strings.TrimPrefix(p.url, "http://"), server(p.streamed, "off", hasty), server(p.buffered, "on", hasty), server(p.balanced+" proxy_protocol", "off", ""))
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // where Debian keeps it, and only root looks
	}
	said := new(strings.Builder)
	cmd := exec.Command(program, "-c", file, "-e", "stderr")
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatalf("nginx (make tools brings it): %v", err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }() // it is told to end, and says so
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("nginx said:\n%s", said)
		}
	})
	eventually(t, "nginx listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("nginx has ended: %s", said)
		default:
		}
		conn, err := net.Dial("tcp", p.buffered)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return p
}

// from asks nginx, as who is at that address.
func (p *proxied) from(ip, method, path string, body io.Reader, headers ...string) answer {
	p.t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true,
		DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, to)
			if err == nil {
				// The PROXY protocol, version 1.
				_, err = fmt.Fprintf(conn, "PROXY TCP4 %s 127.0.0.1 40000 80\r\n", ip)
			}
			return conn, err
		},
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+p.balanced+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header}
	a.body, a.err = io.ReadAll(resp.Body)
	return a
}

// Behind nginx a client is who nginx says: not nginx itself, nor whom the client names.
func TestClientsBehindProxy(t *testing.T) {
	p := startBehindNginx(t)
	own := "/v2/own/app/blobs/uploads/?digest=" + digestOfX
	for name, x := range map[string]struct {
		ip      string
		headers []string
		want    int
	}{
		"who may":                       {"203.0.113.5", nil, http.StatusCreated},
		"who may, and names another":    {"203.0.113.5", []string{"X-Forwarded-For", "203.0.113.6"}, http.StatusCreated},
		"who may not":                   {"203.0.113.6", nil, http.StatusForbidden},
		"who may not, and names one":    {"203.0.113.6", []string{"X-Forwarded-For", "203.0.113.5"}, http.StatusForbidden},
		"who may not, and names two":    {"203.0.113.6", []string{"X-Forwarded-For", "203.0.113.5, 203.0.113.5"}, http.StatusForbidden},
		"who may not, by X-Real-IP":     {"203.0.113.6", []string{"X-Real-IP", "203.0.113.5"}, http.StatusForbidden},
		"who may not, by Forwarded":     {"203.0.113.6", []string{"Forwarded", "for=203.0.113.5"}, http.StatusForbidden},
		"who is where nginx is":         {"127.0.0.1", nil, http.StatusForbidden},
		"who is there, and names one":   {"203.0.113.6", []string{"X-Forwarded-For", "203.0.113.5, 127.0.0.1"}, http.StatusForbidden},
		"who names what is no address ": {"203.0.113.6", []string{"X-Forwarded-For", "203.0.113.5:80, \"x\""}, http.StatusForbidden},
	} {
		if a := p.from(x.ip, http.MethodPost, own, strings.NewReader("x"), x.headers...); a.status != x.want {
			t.Errorf("%s: %d %s %v, want %d", name, a.status, a.body, a.err, x.want)
		}
	}
	if a := p.from("203.0.113.6", http.MethodGet, "/v2/own/app/blobs/"+digestOfX, nil, "X-Forwarded-For", "203.0.113.5"); a.status != http.StatusForbidden {
		t.Errorf("pulled by who may not: %d", a.status)
	}
	if a := p.from("203.0.113.5", http.MethodGet, "/v2/own/app/blobs/"+digestOfX, nil); a.status != http.StatusOK || string(a.body) != "x" {
		t.Errorf("pulled by who may: %d %q", a.status, a.body)
	}
}

// raw sends what may be several requests, and reads until nginx closes the connection, which
// it does when nothing comes any more.
func (p *proxied) raw(address, sent string) {
	p.t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		p.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, sent); err != nil {
		p.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
		p.t.Errorf("neither answered nor closed: %q", sent)
	}
}

// asked counts requests by method and path: those that nginx passed on, each time that it
// did, and those that weir has seen.
func (p *proxied) asked() (passed, seen map[string]int) {
	p.t.Helper()
	passed, seen = map[string]int{}, map[string]int{}
	log, err := os.Open(p.access)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), " ", 3)
		if len(fields) != 3 || fields[2] == "-" {
			continue // no request, or none that went on
		}
		path, _, _ := strings.Cut(fields[1], "?")
		passed[fields[0]+" "+path] += 1 + strings.Count(fields[2], ",")
	}
	for line := range strings.Lines(p.log.String()) {
		var said struct{ Msg, Method, Path string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "request" {
			seen[said.Method+" "+said.Path]++
		}
	}
	return passed, seen
}

// S-14: of what nginx passes on weir sees as many requests as nginx does, and each who asks
// next over the same connection of nginx is answered what they asked for.
func TestSmugglingThroughProxy(t *testing.T) {
	p := startBehindNginx(t)
	blobs := map[string][]byte{}
	for i := range uint64(2) {
		b := origintest.Bytes(i, 1000)
		path := "/v2/app/blobs/" + digest.FromBytes(b).String()
		blobs[path] = b
		if a := p.from("203.0.113.5", http.MethodPost, "/v2/app/blobs/uploads/?digest="+digest.FromBytes(b).String(), strings.NewReader(string(b))); a.status != http.StatusCreated {
			t.Fatalf("pushed: %d %s", a.status, a.body)
		}
	}
	for name, x := range smuggling() {
		t.Run(name, func(t *testing.T) {
			for _, address := range []string{p.streamed, p.buffered} {
				p.raw(address, x.sent)
				for path, want := range blobs {
					if a := p.from("203.0.113.5", http.MethodGet, path, nil); a.status != http.StatusOK || string(a.body) != string(want) {
						t.Errorf("who asked next: %d, %d bytes, %v", a.status, len(a.body), a.err)
					}
				}
			}
		})
	}
	// Both write their line when a request has ended.
	eventually(t, "all is logged", func() bool {
		passed, seen := p.asked()
		const path = "GET /v2/app/blobs/"
		n, m := 0, 0
		for what := range passed {
			if strings.HasPrefix(what, path) {
				n, m = n+passed[what], m+seen[what]
			}
		}
		return n > 0 && n == m
	})
	passed, seen := p.asked()
	for what, n := range seen {
		if n > passed[what] {
			t.Errorf("%s: weir has seen %d, and nginx passed on %d", what, n, passed[what])
		}
	}
	t.Logf("passed on: %v", passed)
}
