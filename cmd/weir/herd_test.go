package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// tap watches the answers of an upstream's blobs as they leave: how many run at a
// time, of blobs larger than so many bytes.
type tap struct {
	large int64
	after func(path string, n int)

	mu      sync.Mutex
	running map[string]int // answers on their way, by path
	answers int            // the sum of running
	most    int            // the largest that answers was
	blobs   int            // the largest that len(running) was
}

// watch puts a tap before all blobs of u. after is called after each piece of a body,
// with its length, and may wait.
func watch(u *remotetest.Upstream, large int64, after func(path string, n int)) *tap {
	w := &tap{large: large, running: map[string]int{}, after: after}
	u.Fault("/blobs/", func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			a := &tapped{ResponseWriter: rw, tap: w, path: r.URL.Path}
			defer a.end()
			next.ServeHTTP(a, r)
		})
	})
	return w
}

// tapped is one answer on its way.
type tapped struct {
	http.ResponseWriter
	tap     *tap
	path    string
	left    int64 // bytes still to come
	counted bool
}

func (a *tapped) WriteHeader(status int) {
	a.left, _ = strconv.ParseInt(a.Header().Get("Content-Length"), 10, 64)
	size := a.left
	if _, whole, ok := strings.Cut(a.Header().Get("Content-Range"), "/"); ok {
		size, _ = strconv.ParseInt(whole, 10, 64)
	}
	if status < 300 && size > a.tap.large {
		a.tap.mu.Lock()
		a.counted = true
		a.tap.running[a.path]++
		a.tap.answers++
		a.tap.most = max(a.tap.most, a.tap.answers)
		a.tap.blobs = max(a.tap.blobs, len(a.tap.running))
		a.tap.mu.Unlock()
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *tapped) Write(b []byte) (int, error) {
	if a.left -= int64(len(b)); a.left <= 0 {
		// Whoever has the last byte may ask for the next thing before this handler
		// has returned: the answer is over when that byte leaves.
		a.end()
	}
	n, err := a.ResponseWriter.Write(b)
	a.tap.after(a.path, n)
	return n, err
}

func (a *tapped) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// end takes the answer out of those that run. It may be called again.
func (a *tapped) end() {
	a.tap.mu.Lock()
	defer a.tap.mu.Unlock()
	if a.counted {
		a.counted = false
		a.tap.answers--
		if a.tap.running[a.path]--; a.tap.running[a.path] == 0 {
			delete(a.tap.running, a.path)
		}
	}
}

// reader is one client in the middle of a blob: a bare connection, so that nothing
// reads ahead for it and it costs little where there are hundreds.
type reader struct {
	conn net.Conn
	body *bufio.Reader
	off  int64 // of what it reads next
}

// open asks for a blob and returns when the header has come.
func (r *running) open(ctx context.Context, path string) (*reader, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	c := &reader{conn: conn, body: bufio.NewReaderSize(conn, 4<<10)}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n", path); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	resp, err := http.ReadResponse(c.body, nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 {
		return nil, errors.Join(fmt.Errorf("status %d, length %d", resp.StatusCode, resp.ContentLength), conn.Close())
	}
	return c, nil
}

var errWrongBytes = errors.New("wrong bytes")

// read reads n bytes and compares them with those of want at the same place.
func (c *reader) read(want []byte, n int64, buf []byte) error {
	for n > 0 {
		got, err := c.body.Read(buf[:min(int64(len(buf)), n)])
		if !same(buf[:got], want[c.off:]) {
			return fmt.Errorf("%w between %d and %d", errWrongBytes, c.off, c.off+int64(got))
		}
		c.off += int64(got)
		if n -= int64(got); n > 0 && err != nil {
			return fmt.Errorf("after %d bytes: %w", c.off, err)
		}
	}
	return nil
}

// same reports whether b begins with a. Nobody writes to either: the race detector
// would look at every byte of what hundreds of clients read, and take most of the
// time of these tests for it.
//
//go:norace
//go:noinline
func same(a, b []byte) bool { return len(a) <= len(b) && bytes.Equal(a, b[:len(a)]) }

// spools gives the names of what is in the spool directory.
func (r *running) spools() []string {
	entries, err := os.ReadDir(filepath.Join(r.data, spoolDir))
	if err != nil {
		r.t.Error(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Two hundred clients pull one cold blob. The first reads 10 KiB a second, twenty
// leave in the middle. The upstream sends each byte once; the slow one still has
// most of the blob before it when all others are done with theirs, so that nobody
// waited for it.
func TestHerd(t *testing.T) {
	const (
		size    = 64 << 20
		clients = 200
		leavers = 20
	)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	u := remotetest.New(t)
	data := origintest.Bytes(seed, size)
	layer := u.AddBlob("library/nginx", data).Digest.String()
	// The upstream stands still at half the blob until all have come, so that they
	// are all there while it is coming in.
	half, sent, come := sync.Mutex{}, 0, make(chan struct{})
	watch(u, 1<<20, func(_ string, n int) {
		half.Lock()
		sent += n
		wait := sent > size/2
		half.Unlock()
		if wait {
			<-come
		}
	})
	var once sync.Once
	arrived := func() { once.Do(func() { close(come) }) }
	t.Cleanup(arrived) // or the upstream could not end
	r := start(t, "", hub(u, "      timeouts: {stall: 10m}\n"))
	path := "/v2/docker.io/library/nginx/blobs/" + layer

	slow, err := r.open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.conn.Close() }()
	crawl := make(chan struct{}) // closed when the slow one may stop
	crawled := make(chan error, 1)
	go func() {
		buf := make([]byte, 1<<10)
		pace := time.NewTicker(100 * time.Millisecond)
		defer pace.Stop()
		for {
			if err := slow.read(data, 1<<10, buf); err != nil {
				crawled <- err
				return
			}
			select {
			case <-pace.C:
			case <-crawl:
				crawled <- slow.read(data, 1<<10, buf) // it is still being served
				return
			}
		}
	}()

	var all errgroup.Group
	var opened sync.WaitGroup
	opened.Add(clients - 1)
	for i := range clients - 1 {
		n, leaves := int64(size), i < leavers
		if leaves {
			n = random.Int64N(size)
		}
		all.Go(func() error {
			c, err := r.open(t.Context(), path)
			opened.Done()
			if err != nil {
				return fmt.Errorf("client %d: %w", i, err)
			}
			defer func() { _ = c.conn.Close() }() // it has all that it wanted, or leaves
			buf := make([]byte, 256<<10)
			if err := c.read(data, n, buf); err != nil {
				return fmt.Errorf("client %d: %w", i, err)
			}
			if _, err := c.body.Read(buf[:1]); !leaves && err != io.EOF {
				return fmt.Errorf("client %d: the body does not end: %w", i, err)
			}
			return nil
		})
	}
	opened.Wait()
	arrived()
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	close(crawl)
	if err := <-crawled; err != nil {
		t.Errorf("the slow client: %v", err)
	}
	// Sockets hold a few MiB at most; what is behind that is for weir to keep.
	if slow.off > size/2 {
		t.Errorf("the slow client has read %d bytes: it was not slow", slow.off)
	}

	r.settled()
	if n := u.Sent("/blobs/" + layer); n != size {
		t.Errorf("the upstream sent %d bytes of a blob of %d", n, size)
	}
	a := r.get(path)
	if a.status != 200 || a.err != nil || !bytes.Equal(a.body, data) || a.header.Get("Weir-Cache") != "hit" {
		t.Errorf("the next pull: %d, %d bytes, %v, %v", a.status, len(a.body), a.header, a.err)
	}
	if n := u.Sent("/blobs/" + layer); n != size {
		t.Errorf("the upstream sent %d bytes after the next pull", n)
	}
	_ = slow.conn.Close()
	eventually(t, "no spool is left", func() bool { return len(r.spools()) == 0 })
}

// settled waits until no fill is running.
func (r *running) settled() {
	r.t.Helper()
	eventually(r.t, "fills end", func() bool { return strings.Contains(string(r.get("/v2/_ext/fills").body), `"fills":[]`) })
}

// Twenty clients pull five hundred cold blobs, all of them the same ones at the same
// time. The upstream sends each byte once, is asked once for each small blob, and
// never has more to do at a time than the configuration allows.
func TestHerdOfBlobs(t *testing.T) {
	const (
		blobs       = 500
		large       = 16 // of them, 2.5 MiB each: they come in several ranges
		clients     = 20
		concurrency = 3
		streams     = 2
	)
	u := remotetest.New(t)
	var content [blobs][]byte
	var paths [blobs]string
	for i := range content {
		n := 1 + i*97
		if i%(blobs/large) == 0 && i/(blobs/large) < large {
			n = 5 << 19
		}
		content[i] = origintest.Bytes(uint64(i), n)
		paths[i] = "/blobs/" + u.AddBlob("library/nginx", content[i]).Digest.String()
	}
	// Large blobs stand still, after their first bytes, until as many answers are
	// coming as may.
	full := make(chan struct{})
	var once sync.Once
	release := func() { once.Do(func() { close(full) }) }
	t.Cleanup(release)
	var tapping *tap
	tapping = watch(u, 1<<20, func(path string, _ int) {
		tapping.mu.Lock()
		counted, enough := tapping.running[path] > 0, tapping.answers >= concurrency*streams
		tapping.mu.Unlock()
		if enough {
			release()
		}
		if counted {
			<-full
		}
	})
	r := start(t, "", fmt.Sprintf("  fills: {concurrency: %d, streams: %d}\n", concurrency, streams)+hub(u, "      timeouts: {stall: 10m}\n"))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all errgroup.Group
	for range clients {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
		t.Cleanup(client.CloseIdleConnections)
		next := make(chan int)
		all.Go(func() error {
			defer close(next)
			for i := range content {
				select {
				case next <- i:
				case <-ctx.Done():
				}
			}
			return nil
		})
		for range 6 { // layers at a time, as Docker and containerd have it, or more
			all.Go(func() error {
				buf := make([]byte, 5<<19)
				for i := range next {
					if err := fetch(ctx, client, r.url+"/v2/docker.io/library/nginx"+paths[i], content[i], buf); err != nil {
						cancel()
						return fmt.Errorf("blob %d: %w", i, err)
					}
				}
				return nil
			})
		}
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	asked, sent := map[string]int{}, map[string]int64{}
	for _, request := range u.Log() {
		asked[request.URI]++
		sent[request.URI] += request.Sent
	}
	for i, path := range paths {
		size := int64(len(content[i]))
		if n := sent["/v2/library/nginx"+path]; n != size {
			t.Errorf("blob %d: the upstream sent %d bytes of %d", i, n, size)
		}
		if n := asked["/v2/library/nginx"+path]; n != 1 && size <= 1<<20 {
			t.Errorf("blob %d of %d bytes: asked for %d times", i, size, n)
		}
	}
	if tapping.blobs != concurrency || tapping.most != concurrency*streams {
		t.Errorf("at most %d large blobs in %d answers at a time, %d in %d are configured", tapping.blobs, tapping.most, concurrency, concurrency*streams)
	}
	r.settled()
	eventually(t, "no spool is left", func() bool { return len(r.spools()) == 0 })
}

// fetch gets a blob by way of buf, and comes again as long as weir says that it is
// busy.
func fetch(ctx context.Context, client *http.Client, url string, want, buf []byte) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		n, err := io.ReadFull(resp.Body, buf[:min(max(resp.ContentLength, 0), int64(len(buf)))])
		_ = resp.Body.Close() // all of it was read, or err says why not
		switch {
		case resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
		case err != nil || resp.StatusCode != http.StatusOK || n != len(want) || !same(buf[:n], want):
			return fmt.Errorf("status %d, %d bytes of %d: %w", resp.StatusCode, n, len(want), err)
		default:
			return nil
		}
	}
}
