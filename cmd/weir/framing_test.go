package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz"
)

// answers sends what may be two requests, and gives the status of each answer until the
// server closes the connection, or there are two.
func answers(t *testing.T, address, sent string) (statuses []int) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, sent); err != nil {
		t.Fatal(err)
	}
	for r := bufio.NewReader(conn); len(statuses) < 2; {
		resp, err := http.ReadResponse(r, nil)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("neither answered nor closed after %v", statuses)
		}
		if err != nil {
			return statuses
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		statuses = append(statuses, resp.StatusCode)
	}
	return statuses
}

// smuggled is what two readers may cut apart differently.
type smuggled struct {
	sent string
	want []int // the answers of weir itself; nil: any, or none
}

// smuggling gives, by name, requests behind which GET /hidden is hidden.
func smuggling() map[string]smuggled {
	const (
		hidden = "GET /hidden HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
		upload = "/v2/team/app/blobs/uploads/"
	)
	head := func(method, path string, lines ...string) string {
		return method + " " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	both := []string{"Content-Length: 6", "Transfer-Encoding: chunked"}
	proxied := append([]string{"X-Forwarded-For: 203.0.113.9"}, both...)
	return map[string]smuggled{
		"both lengths, GET":               {head("GET", "/v2/", both...) + "0\r\n\r\n" + hidden, []int{200}},
		"both lengths, POST":              {head("POST", upload, both...) + "0\r\n\r\n" + hidden, []int{202}},
		"both lengths, DELETE":            {head("DELETE", "/v2/team/app/manifests/v1", both...) + "0\r\n\r\n" + hidden, []int{404}},
		"both lengths, PUT, by a proxy":   {head("PUT", "/v2/team/app/manifests/v1", proxied...) + "0\r\n\r\n" + hidden, []int{403}},
		"both lengths, PATCH, by a proxy": {head("PATCH", upload+"x", proxied...) + "0\r\n\r\n" + hidden, []int{403}},
		"encoding before length":          {head("POST", upload, "Transfer-Encoding: chunked", "Content-Length: 6") + "0\r\n\r\n" + hidden, []int{202}},
		"folded encoding":                 {head("POST", upload, "Content-Length: 6", "Transfer-Encoding:\r\n chunked") + "0\r\n\r\n" + hidden, []int{202}},
		"two lengths":                     {head("POST", upload, "Content-Length: 0", "Content-Length: 6") + hidden, []int{400}},
		"two lengths in one":              {head("POST", upload, "Content-Length: 0, 6") + hidden, []int{400}},
		"folded length":                   {head("POST", upload, "Content-Length: 0\r\n 6") + hidden, []int{400}},
		"length with a sign":              {head("POST", upload, "Content-Length: +0") + hidden, []int{400}},
		"length in hex":                   {head("POST", upload, "Content-Length: 0x0") + hidden, []int{400}},
		"empty length":                    {head("POST", upload, "Content-Length:") + hidden, []int{400}},
		"two encodings":                   {head("POST", upload, "Transfer-Encoding: chunked", "Transfer-Encoding: identity") + "0\r\n\r\n" + hidden, []int{501}},
		"encodings in one":                {head("POST", upload, "Transfer-Encoding: gzip, chunked") + "0\r\n\r\n" + hidden, []int{501}},
		"encoding that looks alike":       {head("POST", upload, "Transfer-Encoding: xchunked") + "0\r\n\r\n" + hidden, []int{501}},
		"encoding with a tab":             {head("POST", upload, "Transfer-Encoding: \x0bchunked") + "0\r\n\r\n" + hidden, []int{400}},
		"space before the colon":          {head("POST", upload, "Transfer-Encoding : chunked") + "0\r\n\r\n" + hidden, []int{400}},
		"space before the first header":   {head("POST", upload)[:len("POST "+upload+" HTTP/1.1\r\n")] + " Host: x\r\n\r\n" + hidden, []int{400}},
		"NUL in a name":                   {head("GET", "/v2/", "X\x00Y: 1") + hidden, []int{400}},
		"bare CR in a value":              {head("GET", "/v2/", "X: a\rTransfer-Encoding: chunked") + hidden, []int{400}},
		"two hosts":                       {head("GET", "/v2/", "Host: evil.example") + hidden, []int{400}},
		"bare LF in a chunk's extension":  {head("POST", upload, "Transfer-Encoding: chunked") + "0;\nGET /hidden HTTP/1.1\r\n\r\n" + hidden, nil},
		"bare LF after a chunk's length":  {head("POST", upload, "Transfer-Encoding: chunked") + "1\nx\r\n0\r\n\r\n" + hidden, nil},
		"a chunk's length too long":       {head("POST", upload, "Transfer-Encoding: chunked") + "00000000000000000\r\n\r\n" + hidden, nil},
		"a chunk's length with a sign":    {head("POST", upload, "Transfer-Encoding: chunked") + "+0\r\n\r\n" + hidden, nil},
		"HTTP/1.0 with an encoding":       {"POST " + upload + " HTTP/1.0\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, []int{202}},
		"a trailer that is a length":      {head("POST", upload, "Transfer-Encoding: chunked", "Trailer: Content-Length") + "0\r\nContent-Length: 6\r\n\r\n" + hidden, []int{400}},
		"an upgrade to HTTP/2":            {head("GET", "/v2/", "Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__") + hidden, []int{200}},
		"a body of an upgrade":            {head("POST", upload, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "Transfer-Encoding: chunked") + "0\r\n\r\n" + hidden, []int{202}},
		"a preface of HTTP/2":             {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden, nil},
	}
}

// S-14: what two readers may cut apart differently is refused, or ends the connection
// after the answer: what is hidden behind it is never answered as a request. (Behind
// nginx: TestSmugglingThroughProxy)
func TestSmuggling(t *testing.T) {
	r := start(t, "", "")
	address := strings.TrimPrefix(r.url, "http://")
	for name, x := range smuggling() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := answers(t, address, x.sent)
			if len(got) > 1 {
				t.Errorf("answers %v", got)
			}
			if x.want != nil && fmt.Sprint(got) != fmt.Sprint(x.want) {
				t.Errorf("answers %v, want %v", got, x.want)
			}
		})
	}
}

// A connection stays after what is well cut, the chunks of an upload among it, unless
// they came through a proxy.
func TestFramedConnections(t *testing.T) {
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	s := httptest.NewServer(framed(handler, authz.NewPeers(authz.PeersOptions{})))
	defer s.Close()
	trusting := httptest.NewServer(framed(handler, authz.NewPeers(authz.PeersOptions{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})))
	defer trusting.Close()
	const chunks = "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
	for name, x := range map[string]struct {
		s     *httptest.Server
		head  string
		stays bool
	}{
		"no body":                        {s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
		"a length":                       {s, "POST / HTTP/1.1\r\nHost: a\r\nVia: 1.1 b\r\nContent-Length: 1\r\n\r\nx", true},
		"chunks of PATCH":                {s, "PATCH / HTTP/1.1\r\nHost: a\r\n" + chunks, true},
		"chunks of PUT":                  {s, "PUT / HTTP/1.1\r\nHost: a\r\n" + chunks, true},
		"chunks of POST":                 {s, "POST / HTTP/1.1\r\nHost: a\r\n" + chunks, false},
		"chunks of GET":                  {s, "GET / HTTP/1.1\r\nHost: a\r\n" + chunks, false},
		"chunks of PATCH, passed on":     {s, "PATCH / HTTP/1.1\r\nHost: a\r\nVia: 1.1 b\r\n" + chunks, false},
		"chunks of PUT by a proxy":       {trusting, "PUT / HTTP/1.1\r\nHost: a\r\n" + chunks, false},
		"no body, by a proxy":            {trusting, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
		"both lengths, PATCH by a proxy": {trusting, "PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n" + chunks, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := answers(t, x.s.Listener.Addr().String(), x.head+x.head)
			if want := map[bool]int{true: 2, false: 1}[x.stays]; len(got) != want {
				t.Errorf("answers %v, want %d", got, want)
			}
		})
	}
}
