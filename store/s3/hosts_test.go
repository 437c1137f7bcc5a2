package s3_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/store/s3"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// inEachStyle runs a test with buckets in the paths of URLs, and in their hosts as AWS has
// them.
func inEachStyle(t *testing.T, test func(t *testing.T, server *s3test.Server, fresh func(testing.TB) s3.Options)) {
	t.Run("path", func(t *testing.T) {
		t.Parallel()
		server := s3test.Start(t)
		test(t, server, func(t testing.TB) s3.Options { return options(t, server) })
	})
	t.Run("host", func(t *testing.T) {
		t.Parallel()
		h := hosted{t, s3test.Start(t, "--virtual-domain", domain)}
		test(t, h.Server, h.options)
	})
}

const domain = "s3.test"

// hosted is a server that has a host for each bucket, and what leads to it.
type hosted struct {
	t testing.TB
	*s3test.Server
}

// options are those of a new bucket.
func (h hosted) options(t testing.TB) s3.Options {
	t.Helper()
	o := options(t, h.Server)
	o.PathStyle, o.Endpoint = false, "http://"+domain
	o.Around = func(next http.RoundTripper) http.RoundTripper {
		transport := next.(*http.Transport)
		transport.Proxy, transport.DialContext = nil, h.dial
		return named{h.t, o.Bucket, transport}
	}
	return o
}

// dial leads all names to the server.
func (h hosted) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(h.URL, "http://"))
}

// named wants the bucket in the host of each request, and not in its path.
type named struct {
	t      testing.TB
	bucket string
	next   http.RoundTripper
}

func (n named) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != n.bucket+"."+domain || strings.Contains(r.URL.Path, n.bucket) {
		n.t.Errorf("%s %s%s is not at the bucket's host", r.Method, r.URL.Host, r.URL.Path)
	}
	return n.next.RoundTrip(r)
}

// A signed address of a bucket that has a host is there, and gives the blob.
func TestPresignAtHost(t *testing.T) {
	h := hosted{t, s3test.Start(t, "--virtual-domain", domain)}
	o := h.options(t)
	blobs := open(t, o).Blobs()
	d, err := push(t, blobs, small)
	if err != nil {
		t.Fatal(err)
	}
	address, err := blobs.Presign(t.Context(), d, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := url.Parse(address); err != nil || u.Host != o.Bucket+"."+domain {
		t.Errorf("%s is not at the bucket's host: %v", address, err)
	}
	transport := &http.Transport{DialContext: h.dial}
	defer transport.CloseIdleConnections()
	for _, c := range []struct {
		address string
		span    string
		status  int
		body    string
	}{
		{address, "", http.StatusOK, string(small)},
		{address, "bytes=10-19", http.StatusPartialContent, string(small[10:20])},
		{strings.Replace(address, o.Bucket, h.Bucket(t), 1), "", http.StatusForbidden, ""}, // signed is the host
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.span != "" {
			req.Header.Set("Range", c.span)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || err != nil || c.body != "" && string(body) != c.body {
			t.Errorf("%q: %d with %d bytes, %v", c.span, resp.StatusCode, len(body), err)
		}
	}
}
