package egress

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	maxHeader = 64 << 10 // bytes of an answer's header; signed addresses in Location take 2 KiB
	idleConns = 64       // kept per host: a cold pull of many images at once reuses them
	// expectWait is how long a server that was asked by "Expect: 100-continue" may take
	// to say whether it wants a body; the body is sent then all the same.
	expectWait = time.Second
)

// lines are the connections to hosts that are dialled in the same way. Bulk has
// connections of its own, and HTTP/1.1 on them: one HTTP/2 connection is one
// congestion window, and where a CDN limits what a connection gets it is one such
// limit, whatever number of ranges are asked for on it. All else may share one.
type lines struct {
	calls http.RoundTripper // HTTP/2 where the host speaks it
	bulk  http.RoundTripper // may be the same
}

// newLines makes them so that the two together keep to o.MaxConnections: see
// [Options].
func newLines(
	t *tls.Config, o Options, proxy func(*http.Request) (*url.URL, error),
	dial func(ctx context.Context, network, addr string) (net.Conn, error),
) lines {
	line := func(most int, http2 bool) http.RoundTripper {
		p := &http.Protocols{}
		p.SetHTTP1(true)
		p.SetHTTP2(http2)
		return o.Network.around(&http.Transport{
			Proxy:                  proxy,
			DialContext:            dial,
			TLSClientConfig:        t.Clone(), // each has its own protocols put into it
			TLSHandshakeTimeout:    o.Timeouts.Connect,
			ResponseHeaderTimeout:  o.Timeouts.Header,
			ExpectContinueTimeout:  expectWait,
			MaxResponseHeaderBytes: maxHeader,
			MaxConnsPerHost:        most,
			MaxIdleConnsPerHost:    idleConns,
			IdleConnTimeout:        90 * time.Second,
			DisableCompression:     true, // digests and ranges are of the bytes as they are
			Protocols:              p,
			// A dead HTTP/2 connection takes no further request with it.
			HTTP2: &http.HTTP2Config{SendPingTimeout: o.Timeouts.Header, PingTimeout: o.Timeouts.Header},
		})
	}
	switch {
	case o.Network.RoundTripper != nil:
		one := o.Network.around(o.Network.RoundTripper)
		return lines{calls: one, bulk: one}
	case o.URL.Scheme == "http":
		// There is no HTTP/2 to have, so that nothing is gained by two.
		one := line(o.MaxConnections, false)
		return lines{calls: one, bulk: one}
	case o.MaxConnections == 1:
		one := line(1, true)
		return lines{calls: one, bulk: one}
	}
	calls, bulk := shares(o.MaxConnections)
	return lines{calls: line(calls, true), bulk: line(bulk, false)}
}

// shares splits a number of connections, 0 = no limit, of which there are two or
// more. One is enough for calls where HTTP/2 is spoken; where it is not, a quarter
// does for what is small.
func shares(most int) (calls, bulk int) {
	if most == 0 {
		return 0, 0
	}
	calls = max(1, most/4)
	return calls, most - calls
}

func (l lines) pick(bulk bool) http.RoundTripper {
	if bulk {
		return l.bulk
	}
	return l.calls
}

// close lets go of the connections that are not in use.
func (l lines) close() {
	for _, line := range []http.RoundTripper{l.calls, l.bulk} {
		if t, ok := line.(interface{ CloseIdleConnections() }); ok {
			t.CloseIdleConnections()
		}
	}
}
