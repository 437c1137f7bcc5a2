package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
)

const (
	// hopPath is where a replica gives another one what it is fetching. It is on the
	// public listener: for whoever shows no signature there is nothing there.
	hopPath = "/v2/_ext/" + serve.FillExtension
	// hopHeader has the signature of a request, and when it was made.
	hopHeader = "Weir-Replica"
	// hopSkew is how far the clocks of two replicas may be apart, and so for how long a
	// request may be made again by whoever saw it, which gives him the same once more.
	hopSkew = time.Minute
	// hopLimit is how long another replica may be silent: see law 8 of package fill.
	hopLimit = 2 * time.Second
	// mostHops is how many replicas connections are kept to.
	mostHops = 64
)

// hops is how replicas read each other's running fills: over HTTP, with requests that are
// signed by the key that they share. What may be read is decided where a client asks; who
// has the key is another replica, which has decided.
type hops struct {
	own string // this replica's URL
	key []byte

	group *fill.Group // whose fills others read; set before anything is served

	mu      sync.Mutex
	clients map[string]*egress.Client // by the URL of the replica
}

func newHops(own string, key []byte) *hops {
	return &hops{own: own, key: key, clients: map[string]*egress.Client{}}
}

func (h *hops) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.clients {
		c.Close()
	}
}

// sign is the signature of a request that is made at that time.
func (h *hops) sign(at, query, rng string) string {
	mac := hmac.New(sha256.New, h.key)
	_, _ = fmt.Fprintf(mac, "GET\n%s?%s\n%s\n%s", hopPath, query, rng, at) // never fails
	return hex.EncodeToString(mac.Sum(nil))
}

// signed reports whether a replica made the request just now.
func (h *hops) signed(r *http.Request) bool {
	at, signature, _ := strings.Cut(r.Header.Get(hopHeader), " ")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > hopSkew {
		return false
	}
	return hmac.Equal([]byte(signature), []byte(h.sign(at, r.URL.RawQuery, r.Header.Get("Range"))))
}

var errNoHop = errors.New("no such fill, or nobody to give it to")

// serve implements serve.Options.Fill: what is being fetched, and nothing else.
func (h *hops) serve(r *http.Request, rng store.Range) (origin.Blob, error) {
	if r.URL.Path != hopPath || !h.signed(r) {
		return origin.Blob{}, errNoHop
	}
	q := r.URL.Query()
	repo, err := origin.ParseRepo(q.Get("repository"))
	if err != nil {
		return origin.Blob{}, err
	}
	d, err := origin.ParseDigest(q.Get("digest"))
	if err != nil {
		return origin.Blob{}, err
	}
	f, ok := h.group.Find(fill.Key{Upstream: q.Get("upstream"), Repo: repo, Digest: d})
	if !ok {
		return origin.Blob{}, errNoHop
	}
	return f.Follow(r.Context(), rng)
}

// client gives the client for a replica.
func (h *hops) client(base string) (*egress.Client, *url.URL, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, nil, errors.New("the other replica's URL is none")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.clients[base]
	if !ok {
		if len(h.clients) >= mostHops {
			for _, old := range h.clients {
				old.Close() // what is in use ends well
			}
			clear(h.clients)
		}
		c = egress.New(egress.Options{
			URL:       u,
			Timeouts:  egress.Timeouts{Connect: hopLimit, Header: hopLimit, Stall: hopLimit},
			UserAgent: "weir/" + version,
			Network:   egress.Network{Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }, Around: observe.Transport("replica")},
		})
		h.clients[base] = c
	}
	return c, u, nil
}

// ask asks another replica for n bytes of what it is fetching, from off on; n -1: to the
// end.
func (h *hops) ask(ctx context.Context, leader string, key fill.Key, off, n int64) (fill.Stream, error) {
	c, base, err := h.client(leader)
	if err != nil {
		return fill.Stream{}, err
	}
	query := url.Values{
		"upstream": {key.Upstream}, "repository": {key.Repo.String()}, "digest": {key.Digest.String()},
	}.Encode()
	rng := ""
	switch {
	case n >= 0:
		rng = fmt.Sprintf("bytes=%d-%d", off, off+n-1)
	case off > 0:
		rng = fmt.Sprintf("bytes=%d-", off)
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	header := http.Header{hopHeader: {at + " " + h.sign(at, query, rng)}}
	if rng != "" {
		header.Set("Range", rng)
	}
	a, err := c.Send(ctx, egress.Request{
		URL: &url.URL{Scheme: base.Scheme, Host: base.Host, Path: hopPath, RawQuery: query}, Header: header, Bulk: true,
	}, egress.Secret{})
	if err != nil {
		return fill.Stream{}, err
	}
	s, err := hopStream(a.Response)
	if err != nil {
		a.Discard()
		return fill.Stream{}, err
	}
	return s, nil
}

// hopStream reads the header of another replica's answer.
func hopStream(a *http.Response) (fill.Stream, error) {
	s := fill.Stream{ReadCloser: a.Body, Length: a.ContentLength, Size: a.ContentLength, Upstream: a.Header.Get("Weir-Upstream")}
	switch a.StatusCode {
	case http.StatusOK:
		return s, nil
	case http.StatusPartialContent:
		var last int64
		_, err := fmt.Sscanf(a.Header.Get("Content-Range"), "bytes %d-%d/%d", &s.Offset, &last, &s.Size)
		if err != nil || s.Offset < 0 || last < s.Offset || last >= s.Size || last-s.Offset+1 != s.Length {
			return s, errors.New("the other replica gives a part, and does not say which")
		}
		return s, nil
	default:
		return s, fmt.Errorf("the other replica answers %d", a.StatusCode)
	}
}
