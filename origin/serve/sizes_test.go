package serve_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/serve"
)

// endless gives a byte for ever, and counts.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '['
	}
	e.n += int64(len(p))
	return len(p), nil
}

func (*endless) Close() error { return nil }

// TestSizes: a manifest that is too large, too deep, too wide or in a circle is
// refused, at a bounded cost in memory.
func TestSizes(t *testing.T) {
	const (
		mib   = 1 << 20
		limit = 4 * mib
		image = v1.MediaTypeImageManifest
		index = v1.MediaTypeImageIndex
	)
	registry := newLocal(t)
	h := serve.New(registry, serve.Options{})
	desc := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":2}`, image, sha256A)
	list := func(n int) string {
		return `{"schemaVersion":2,"mediaType":"` + index + `","manifests":[` + strings.TrimSuffix(strings.Repeat(desc+",", n), ",") + `]}`
	}
	nest := func(open, end string, n int) string {
		return `{"schemaVersion":2,"mediaType":"` + image + `","x":` + strings.Repeat(open, n) + "1" + strings.Repeat(end, n) + "}"
	}
	text := func(n int) string {
		return `{"schemaVersion":2,"mediaType":"` + image + `","x":"` + strings.Repeat("x", n) + `"}`
	}
	for _, c := range []struct {
		name, mediaType, content string
		length                   int64 // as announced; -1: chunked
		status                   int
	}{
		{"announced too large", image, "", limit + 1, 413},
		{"absurdly large", image, "", 1 << 50, 413},
		{"endless", image, "", -1, 413},
		{"one byte too large", image, text(limit - 76), 0, 413},
		{"the largest there is", image, text(limit - 100), 0, 400}, // has no config
		{"arrays", image, nest("[", "]", limit/2-100), 0, 400},
		{"arrays without an end", image, strings.Repeat("[", limit), 0, 400},
		{"objects", image, nest(`{"x":`, "}", limit/8), 0, 400},
		{"just too deep", image, nest("[", "]", 64), 0, 400},
		{"wide", index, list(10_001), 0, 400},
		{"many keys", image, "{" + strings.TrimSuffix(strings.Repeat(`"k":1,`, limit/6-1), ",") + "}", 0, 400},
		{"a number", image, `{"schemaVersion":` + strings.Repeat("9", limit-20) + "}", 0, 400},
		{"an exponent", image, `{"schemaVersion":1e999999999}`, 0, 400},
		{"escapes", image, `{"schemaVersion":2,"x":"` + strings.Repeat(`\u0000`, limit/6-10) + `"}`, 0, 400},
		{"bytes that are no text", image, `{"schemaVersion":2,"x":"` + strings.Repeat("\xff", mib), 0, 400},
		{"nothing", image, "", 0, 400},
		{"children that nobody has", index, list(1), 0, 404},
	} {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := request("PUT", "/v2/app/manifests/x", c.content, "Content-Type", c.mediaType)
		source := &endless{}
		if c.length != 0 {
			r.Body, r.ContentLength = source, c.length
		}
		w, err := ask(h, r)
		if err != nil || w.Code != c.status {
			t.Errorf("%s: %v, status %d, want %d: %.200s", c.name, err, w.Code, c.status, w.Body)
			continue
		}
		checkError(t, w.Code, w.Header(), w.Body.Bytes())
		runtime.GC()
		runtime.ReadMemStats(&after)
		if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 16*mib {
			t.Errorf("%s: %d MiB more in memory", c.name, kept/mib)
		}
		// What is reserved and given back again counts too: twice what the manifest
		// needs while it grows, and once more for each reader of it.
		if passing := after.TotalAlloc - before.TotalAlloc; passing > 64*mib {
			t.Errorf("%s: %d MiB passed through memory", c.name, passing/mib)
		}
		if source.n > limit+mib {
			t.Errorf("%s: %d bytes of the body are read", c.name, source.n)
		}
	}
	// An index can name itself only by a digest that it does not have; a chain of
	// them is as deep as its pusher likes, and each link is one manifest.
	chain := origintest.Image([]byte("{}"))
	chain.Push(t, registry, "app")
	for range 20 {
		chain = origintest.Index(chain)
		w := get(t, h, "PUT", "/v2/app/manifests/"+string(chain.Digest()), string(chain.Manifest.Bytes), "Content-Type", index)
		if w.Code != http.StatusCreated && w.Code != http.StatusBadRequest {
			t.Fatalf("chain: status %d: %s", w.Code, w.Body)
		}
	}
}

// TestLongQueries: numbers and strings of any length are read at once or refused.
func TestLongQueries(t *testing.T) {
	h := serve.New(newLocal(t), serve.Options{})
	for target, status := range map[string]int{
		"/v2/_catalog?n=" + strings.Repeat("9", 1<<20):                                                  200,
		"/v2/_catalog?n=-" + strings.Repeat("9", 1<<20):                                                 400,
		"/v2/_catalog?last=" + strings.Repeat("a", 1<<20):                                               400,
		"/v2/_catalog?" + strings.Repeat("n=1&", 1<<18):                                                 400,
		"/v2/app/referrers/" + string(sha256A) + "?artifactType=" + strings.Repeat("a", 1<<20):          400,
		"/v2/app/manifests/" + string(sha256A) + "?ns=" + strings.Repeat("a", 1<<20):                    400,
		"/v2/" + strings.Repeat("a/", 1<<19) + "manifests/x":                                            400,
		"/v2/app/manifests/x?" + strings.Repeat("%41=%42&", 1<<17):                                      400,
		"/v2/app/blobs/uploads/" + strings.Repeat("a", 1<<20):                                           404,
		"/v2/app/blobs/uploads/" + uploadID + "?digest=" + strings.Repeat("sha256:", 1<<17) + sha256Hex: 404,
	} {
		w := get(t, h, "GET", target, "")
		if w.Code != status || w.Body.Len() > 1000 {
			t.Errorf("%.60s: status %d, %d bytes", target, w.Code, w.Body.Len())
		}
	}
}
