package remote_test

import (
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
)

// trusting lets a client trust an upstream with TLS.
func trusting(u *remotetest.Upstream) func(*remote.Options) {
	return func(o *remote.Options) {
		ca := x509.NewCertPool()
		ca.AddCert(u.Certificate())
		o.Trust = egress.Always(&egress.Trust{CA: ca})
	}
}

// spare is how many connections net/http may give up: it does so with one whose writer is
// not heard of within 50 ms of the answer, which on a busy machine may be. If none were kept,
// each of five requests would have one of its own.
const spare = 1

// Stretches at the same time come over connections of their own, with HTTP/1.1,
// from the endpoint and from where it leads; manifests over HTTP/2.
func TestBlobsHaveConnectionsOfTheirOwn(t *testing.T) {
	for _, cdn := range []bool{false, true} {
		t.Run(fmt.Sprint("CDN: ", cdn), func(t *testing.T) {
			u := remotetest.NewTLS(t)
			at := "/v2/x/blobs/"
			if cdn {
				u.CDN()
				at = "cdn:"
			}
			img := u.AddImage("x", "1", []byte("0123456789"))
			d := img.Layers[0].Digest
			r, x := open(t, u.URL(), trusting(u)), repo(t, "x")
			const n = 5
			g := u.Gate(at)
			var all sync.WaitGroup
			for i := range int64(n) {
				all.Go(func() { wantStretch(t, r, x, d, i, 1, fmt.Sprint(i)) })
				all.Go(func() {
					if _, err := r.Manifest(t.Context(), x, ref(t, "1")); err != nil {
						t.Error(err)
					}
				})
			}
			for range n {
				if err := g.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			g.Open()
			all.Wait()
			if got := u.Connections(at); got != n {
				t.Errorf("%d stretches at a time on %d connections", n, got)
			}
			for _, req := range u.Log() {
				want := "HTTP/2.0"
				if strings.Contains(req.URI, d.String()) {
					want = "HTTP/1.1"
				}
				if req.Proto != want {
					t.Errorf("%s came with %s", req, req.Proto)
				}
			}
			// None is lost with the bytes that it brought.
			for i := range int64(n) {
				wantStretch(t, r, x, d, i, 1, fmt.Sprint(i))
			}
			if got := u.Connections(at); got > n+spare {
				t.Errorf("%d connections after %d stretches more", got, n)
			}
		})
	}
}

// However a stretch is read, and however its end is marked, its connection is
// there for the next one.
func TestStretchesReuseAConnection(t *testing.T) {
	content := strings.Repeat("0123456789", 10_000)
	faults := map[string]remotetest.Fault{
		"a length":     remotetest.Header("X-Nothing", "1"),
		"no length":    remotetest.NoLength(),
		"a late end":   remotetest.Rate(10 << 20), // each piece is sent by itself, the last chunk behind it
		"refused once": times(1, remotetest.Status(503)),
	}
	reads := map[string]func(io.Reader) error{
		"to its end": func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		},
		"to its last byte": func(r io.Reader) error {
			_, err := io.ReadFull(r, make([]byte, 20_000))
			return err
		},
	}
	for fault, f := range faults {
		for how, read := range reads {
			t.Run(fault+", read "+how, func(t *testing.T) {
				u := remotetest.New(t)
				d := u.AddBlob("x", []byte(content)).Digest
				if fault == "a late end" {
					u.Fault("/blobs/", remotetest.NoLength())
				}
				u.Fault("/blobs/", f)
				r, x := open(t, u.URL()), repo(t, "x")
				for off := int64(0); off < 100_000; off += 20_000 {
					b, err := r.Stretch(t.Context(), x, d, store.Range{Off: off, Len: 20_000})
					if err != nil {
						if fault == "refused once" && off == 0 {
							continue
						}
						t.Fatal(err)
					}
					if err := read(b.Body); err != nil {
						t.Fatal(err)
					}
					b.Body.Close()
				}
				if got := u.Connections("/blobs/"); got > 1+spare {
					t.Errorf("%d connections", got)
				}
			})
		}
	}
}

// The bound is of both kinds of connections together, and stops nothing for good.
func TestMaxConnections(t *testing.T) {
	for _, most := range []int{1, 2, 3, 4, 8} {
		for name, start := range map[string]func(testing.TB) *remotetest.Upstream{"http": remotetest.New, "https": remotetest.NewTLS} {
			t.Run(fmt.Sprint(name, ", ", most), func(t *testing.T) {
				u := start(t)
				img := u.AddImage("x", "1", []byte("0123456789"))
				d := img.Layers[0].Digest
				// On a busy machine net/http gives a connection up, and makes another one: what
				// counts is how many are in use at a time. Answers are small, and leave behind
				// their handler.
				u.Fault("", remotetest.Latency(20*time.Millisecond))
				if name == "https" { // they share one, which is to be in use all the time
					u.Fault("/manifests/", remotetest.Latency(400*time.Millisecond))
				}
				var mu sync.Mutex
				asking, got := map[string]int{}, 0
				u.Fault("", func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						mu.Lock()
						asking[r.RemoteAddr]++
						got = max(got, len(asking))
						mu.Unlock()
						next.ServeHTTP(w, r)
						mu.Lock()
						if asking[r.RemoteAddr]--; asking[r.RemoteAddr] == 0 {
							delete(asking, r.RemoteAddr)
						}
						mu.Unlock()
					})
				})
				r := open(t, u.URL(), func(o *remote.Options) {
					o.MaxConnections = most
					if name == "https" {
						trusting(u)(o)
					}
				})
				x := repo(t, "x")
				var all sync.WaitGroup
				for i := range int64(20) {
					all.Go(func() { wantStretch(t, r, x, d, i%10, 1, fmt.Sprint(i%10)) })
					all.Go(func() {
						if _, err := r.Manifest(t.Context(), x, ref(t, "1")); err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
				if got > most {
					t.Errorf("%d connections", got)
				}
			})
		}
	}
}

// Where there is no connection left for blobs there is one for the rest.
func TestManifestsPassBlobs(t *testing.T) {
	u := remotetest.NewTLS(t)
	img := u.AddImage("x", "1", []byte("0123456789"))
	r, x := open(t, u.URL(), trusting(u), func(o *remote.Options) { o.MaxConnections = 2 }), repo(t, "x")
	g := u.Gate("/blobs/")
	var all sync.WaitGroup
	for i := range int64(3) {
		all.Go(func() { wantStretch(t, r, x, img.Layers[0].Digest, i, 1, fmt.Sprint(i)) })
	}
	if err := g.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Manifest(t.Context(), x, ref(t, "1")); err != nil {
		t.Error(err)
	}
	g.Open()
	all.Wait()
}
