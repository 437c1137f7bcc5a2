package s3

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// Parts grow with what came before them, so that 10,000 are enough for any blob.
func TestPartsGrow(t *testing.T) {
	for _, least := range []int64{MinPartSize, DefaultPartSize} {
		g := &ingest{buf: &buffer{}}
		var parts int
		for g.size.Load() < 1<<40 && parts <= maxParts {
			size := g.target(least)
			if size < least || size > 5<<30 {
				t.Fatalf("part %d has %d bytes", parts+1, size)
			}
			g.size.Add(size)
			parts++
		}
		t.Logf("%d parts of %d bytes or more for 1 TiB", parts, least)
		if parts > maxParts {
			t.Errorf("parts of %d: %d of them are %d bytes", least, parts, g.size.Load())
		}
	}
}

// httpFunc is an aws.HTTPClient.
type httpFunc func(*http.Request) (*http.Response, error)

func (f httpFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

func TestStalls(t *testing.T) {
	for _, c := range []struct {
		name, method, url string
		length            int64
		limit             time.Duration
	}{
		{"a read", "GET", "http://s3/b/k", 0, 30 * time.Second},
		{"a small write", "PUT", "http://s3/b/k", 1000, 30 * time.Second},
		{"a part", "PUT", "http://s3/b/k?partNumber=1&uploadId=x", 64 << 20, (30 + 1024) * time.Second},
		{"a completion", "POST", "http://s3/b/k?uploadId=x", 1000, 5 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := timed{stall: stall, next: httpFunc(func(r *http.Request) (*http.Response, error) {
					<-r.Context().Done()
					return nil, r.Context().Err()
				})}
				req, err := http.NewRequestWithContext(t.Context(), c.method, c.url, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.ContentLength = c.length
				begun := time.Now()
				_, err = client.Do(req)
				if _, ok := errors.AsType[errStalled](err); !ok || !retryable(err) || time.Since(begun) != c.limit {
					t.Errorf("after %s: %v; want a stall after %s, to be tried again", time.Since(begun), err, c.limit)
				}
			})
		})
	}
}

// A body that pauses is cut, and one that is slow is not.
func TestStalledBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := io.Pipe()
		client := timed{stall: stall, next: httpFunc(func(r *http.Request) (*http.Response, error) {
			context.AfterFunc(r.Context(), func() { _ = to.CloseWithError(r.Context().Err()) })
			return &http.Response{Body: from}, nil
		})}
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://s3/b/k", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for range 10 {
				time.Sleep(29 * time.Second)
				_, _ = io.WriteString(to, "x")
			}
		}()
		begun := time.Now()
		got, err := io.ReadAll(resp.Body)
		if _, ok := errors.AsType[errStalled](err); !ok || string(got) != strings.Repeat("x", 10) || time.Since(begun) != 320*time.Second {
			t.Errorf("%q after %s, %v", got, time.Since(begun), err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	})
}

// How long is waited before a retry is a random part of what is at most, which doubles.
func TestDelays(t *testing.T) {
	for n := range 20 {
		most := min(50*time.Millisecond<<min(n, 10), 2*time.Second) + time.Millisecond
		waited := map[time.Duration]bool{}
		for range 100 {
			d := delay(n)
			if d <= 0 || d > most {
				t.Fatalf("%v before retry %d", d, n)
			}
			waited[d] = true
		}
		if len(waited) < 50 {
			t.Errorf("before retry %d all wait alike", n)
		}
	}
}

// What was used last is known; what was forgotten is not; and there is an end to it.
func TestKnown(t *testing.T) {
	k := newKnown()
	name := func(i int) digest.Digest { return digest.Digest(strings.Repeat("x", i%50) + string(rune(i))) }
	for i := range 5 * knownMost {
		k.put(name(i), pointer{Size: int64(i)})
		k.get(name(0))
	}
	if p, ok := k.get(name(0)); !ok || p.Size != 0 {
		t.Error("what was used all the time is not known")
	}
	if p, ok := k.get(name(5*knownMost - 1)); !ok || p.Size != 5*knownMost-1 {
		t.Error("what came last is not known")
	}
	if n := len(k.young) + len(k.old); n > 2*knownMost {
		t.Errorf("%d are known", n)
	}
	k.forget(name(0))
	if _, ok := k.get(name(0)); ok {
		t.Error("forgotten, and known")
	}
}
