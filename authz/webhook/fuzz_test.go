package webhook_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/weir-registry/weir/authz/webhook"
)

// readResponse is an answer as a connection brings it.
func readResponse(text []byte, r *http.Request) (*http.Response, error) {
	return http.ReadResponse(bufio.NewReader(bytes.NewReader(text)), r)
}

// FuzzAnswer: whatever comes over the connection, only a whole answer with a status of
// 2xx is a yes.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "HTTP/1.0 299 \r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 500 x\r\n\r\n", "HTTP/1.1 -200 OK\r\n\r\n", "HTTP/1.1 200\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		w := open(t, "http://opa", webhook.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return readResponse(text, r)
		})})
		err := w.Authorize(t.Context(), ann, pull)
		res, bad := readResponse(text, nil)
		yes := false
		if bad == nil {
			n, broken := io.Copy(io.Discard, res.Body)
			yes = broken == nil && n <= 64<<10 && res.StatusCode/100 == 2
		}
		if (err == nil) != yes {
			t.Errorf("%q means %v", text, err)
		}
	})
}
