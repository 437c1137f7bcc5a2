package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// failing lets an upstream give n bytes of a blob, in however many answers, and then
// breaks: fall is called with each answer that it is in the middle of, and with each
// that comes after.
func failing(n int64, fall func(r *http.Request)) remotetest.Fault {
	var mu sync.Mutex
	left := n
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			broken := left <= 0
			mu.Unlock()
			if broken {
				fall(r)
				return
			}
			next.ServeHTTP(&faltering{ResponseWriter: w, give: func(want int) (give int, broken bool) {
				mu.Lock()
				defer mu.Unlock()
				give = int(min(int64(want), left))
				left -= int64(give)
				return give, give < want
			}, fall: func() { fall(r) }}, r)
		})
	}
}

type faltering struct {
	http.ResponseWriter
	give func(want int) (give int, broken bool)
	fall func()
}

func (w *faltering) Write(b []byte) (int, error) {
	n, broken := w.give(len(b))
	if _, err := w.ResponseWriter.Write(b[:n]); err != nil {
		return 0, err
	}
	if broken {
		// What was given is on its way before anything else happens.
		if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
			return 0, err
		}
		w.fall()
	}
	return len(b), nil
}

func (w *faltering) Unwrap() http.ResponseWriter { return w.ResponseWriter }

var openRange = regexp.MustCompile(`^bytes=([0-9]+)-`)

// An endpoint that breaks in the middle of a blob, by a cut or by giving nothing any
// more, is followed by the next one at the offset reached: the client sees one whole
// blob, and neither endpoint gives what the other has given.
func TestFailoverInTheMiddle(t *testing.T) {
	cut := func(*http.Request) { panic(http.ErrAbortHandler) }
	hang := func(r *http.Request) { <-r.Context().Done() }
	for _, x := range []struct {
		name string
		size int
		fall func(*http.Request)
		// A machine that is busy must not look like an upstream that hangs: what is on
		// its way then is lost, and counts twice.
		patience string
	}{
		{"one piece, cut", 1 << 20, cut, "60s"},
		{"one piece, hanging", 1 << 20, hang, "15s"},
		{"ranges, cut", 5 << 20, cut, "60s"},
		{"ranges, hanging", 5 << 20, hang, "15s"},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			first, second := remotetest.New(t), remotetest.New(t)
			// The size is known from a manifest, so that what is asked for at once is
			// what is missing.
			data := origintest.Bytes(seed, x.size)
			img := first.AddImage("library/nginx", "1", data)
			second.AddImage("library/nginx", "1", data)
			layer := digests(img)[0]
			reached := 1 + random.Int64N(int64(x.size)-1)
			first.Fault("/blobs/"+layer, failing(reached, x.fall))
			r := start(t, "", fmt.Sprintf("  upstreams:\n    - name: docker.io\n      timeouts: {stall: %[3]s, header: %[3]s}\n"+
				"      endpoints: [{url: '%[1]s'}, {url: '%[2]s'}]\n", first.URL(), second.URL(), x.patience))
			if a := r.get("/v2/docker.io/library/nginx/manifests/1"); a.status != 200 {
				t.Fatalf("manifest: %d %s", a.status, a.body)
			}

			path := "/v2/docker.io/library/nginx/blobs/" + layer
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					if a := r.get(path); a.status != 200 || a.err != nil || !bytes.Equal(a.body, data) {
						t.Errorf("broken at %d: %d, %d bytes, %v", reached, a.status, len(a.body), a.err)
					}
				})
			}
			all.Wait()
			r.settled()
			if a := r.get(path); a.header.Get("Weir-Cache") != "hit" || !bytes.Equal(a.body, data) {
				t.Errorf("the next pull: %d %v", a.status, a.header)
			}

			// What the first one gave was all received: it was flushed before the end. Of
			// ranges the second gives some from the beginning, so that the first may not get
			// as far as to break.
			from, then := first.Sent("/blobs/"+layer), second.Sent("/blobs/"+layer)
			if from+then != int64(x.size) || from > reached || x.size == 1<<20 && from != reached {
				t.Errorf("broken at %d of %d: the first gave %d, the second %d", reached, x.size, from, then)
			}
			for _, request := range second.Log() {
				m := openRange.FindStringSubmatch(request.Range)
				if request.Method != http.MethodGet || request.URI != "/v2/library/nginx/blobs/"+layer {
					continue
				}
				if m == nil {
					t.Errorf("the second was asked for all of it: %s", request)
					continue
				}
				if at, _ := strconv.ParseInt(m[1], 10, 64); x.size == 1<<20 && at != reached {
					t.Errorf("the second was asked from byte %d on, the first broke at %d", at, reached)
				}
			}
		})
	}
}
