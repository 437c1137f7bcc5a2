package remote_test

import (
	"bytes"
	"context"
	_ "crypto/sha512" // what a digest of that name needs
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
)

func TestManifestThatIsNotWhatItShouldBe(t *testing.T) {
	tests := map[string]struct {
		fault    remotetest.Fault
		byDigest bool
		mismatch bool
	}{
		"first byte flipped by tag":    {fault: remotetest.Flip(0), mismatch: true},
		"first byte flipped by digest": {fault: remotetest.Flip(0), byDigest: true, mismatch: true},
		"last byte flipped":            {fault: remotetest.Flip(100), byDigest: true, mismatch: true},
		"cut at the beginning":         {fault: remotetest.Cut(0)},
		"cut half way":                 {fault: remotetest.Cut(100)},
		"wrong digest header":          {fault: remotetest.WrongDigest(), mismatch: true},
		"wrong digest header, good content": {
			fault: remotetest.WrongDigest(), byDigest: true, mismatch: true,
		},
		"no digest header":          {fault: remotetest.Header("Docker-Content-Digest", "none"), mismatch: true},
		"gzip":                      {fault: remotetest.Gzip()},
		"html":                      {fault: remotetest.HTML()},
		"html as a manifest":        {fault: body(v1.MediaTypeImageManifest, "<!DOCTYPE html>")},
		"an error with 200":         {fault: body("application/json", `{"errors":[{"code":"UNKNOWN"}]}`)},
		"nothing":                   {fault: body(v1.MediaTypeImageManifest, "")},
		"larger than 4 MiB":         {fault: body(v1.MediaTypeImageManifest, "{}"+strings.Repeat(" ", 4<<20))},
		"no content":                {fault: status(http.StatusNoContent)},
		"not modified":              {fault: status(http.StatusNotModified)},
		"part of it":                {fault: status(http.StatusPartialContent)},
		"redirect to nowhere":       {fault: status(http.StatusFound)},
		"redirect to a file":        {fault: remotetest.Redirect("file:///etc/passwd")},
		"redirect to itself":        {fault: remotetest.Redirect("?")},
		"header larger than 64 KiB": {fault: remotetest.Header("X-Large", strings.Repeat("x", 65<<10))},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			img := u.AddImage("x", "1", []byte("layer"))
			undo := u.Fault("GET /v2/x/manifests/", test.fault)
			r, x, want := open(t, u.URL()), repo(t, "x"), ref(t, "1")
			if test.byDigest {
				want = origin.ByDigest(img.Digest)
			}
			m, err := r.Manifest(t.Context(), x, want)
			if e := upstreamError(t, err); !e.Outage() || !errors.Is(err, origin.ErrUnavailable) {
				t.Error(err)
			}
			if m.Bytes != nil || m.Digest != "" {
				t.Errorf("given all the same: %q", m.Bytes)
			}
			client, _ := errors.AsType[*origin.Error](err)
			if client.HTTPStatus() != http.StatusBadGateway {
				t.Errorf("the client is told %d", client.HTTPStatus())
			}
			if says := client.Message == "upstream sent content that does not match its digest"; says != test.mismatch {
				t.Errorf("the client is told %q", client.Message)
			}
			undo()
			if m, err := r.Manifest(t.Context(), x, want); err != nil || !bytes.Equal(m.Bytes, img.Bytes) {
				t.Errorf("asked again: %q, %v", m.Bytes, err)
			}
		})
	}
}

func body(mediaType, s string) remotetest.Fault {
	return remotetest.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", mediaType)
		_, _ = io.WriteString(w, s)
		return true
	})
}

func status(code int) remotetest.Fault {
	return remotetest.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(code)
		return true
	})
}

func TestManifestMediaType(t *testing.T) {
	const index, image = `{"schemaVersion":2,"manifests":[]}`, `{"schemaVersion":2}`
	docker := `{"schemaVersion":2,"mediaType":"` + origin.MediaTypeDockerList + `","manifests":[]}`
	tests := []struct{ header, body, want string }{
		{v1.MediaTypeImageManifest, image, v1.MediaTypeImageManifest},
		{v1.MediaTypeImageManifest + "; charset=utf-8", image, v1.MediaTypeImageManifest},
		{strings.ToUpper(v1.MediaTypeImageManifest), image, v1.MediaTypeImageManifest},
		{"application/vnd.example+json", image, "application/vnd.example+json"},
		{"application/json", docker, origin.MediaTypeDockerList},
		{"text/plain; charset=utf-8", docker, origin.MediaTypeDockerList},
		{"application/octet-stream", index, v1.MediaTypeImageIndex},
		{"application/octet-stream", image, v1.MediaTypeImageManifest},
	}
	for _, test := range tests {
		u := remotetest.New(t)
		u.AddManifest("x", test.header, []byte(test.body), "1")
		r := open(t, u.URL())
		for name, ask := range map[string]func() (origin.Descriptor, error){
			"Resolve": func() (origin.Descriptor, error) { return r.Resolve(t.Context(), repo(t, "x"), ref(t, "1")) },
			"Manifest": func() (origin.Descriptor, error) {
				m, err := r.Manifest(t.Context(), repo(t, "x"), ref(t, "1"))
				return m.Descriptor, err
			},
		} {
			if d, err := ask(); err != nil || d.MediaType != test.want || d.Size != int64(len(test.body)) {
				t.Errorf("%s of %s as %s: %+v, %v", name, test.body, test.header, d, err)
			}
		}
	}
}

func TestManifestOfSHA512(t *testing.T) {
	u := remotetest.New(t)
	d := u.AddManifestAs(digest.SHA512, "x", v1.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`), "1")
	r, x := open(t, u.URL()), repo(t, "x")
	for _, by := range []origin.Ref{ref(t, "1"), origin.ByDigest(d.Digest)} {
		if m, err := r.Manifest(t.Context(), x, by); err != nil || m.Digest != d.Digest {
			t.Errorf("%s: %s, %v", by, m.Digest, err)
		}
	}
	u.Fault("/manifests/", remotetest.Flip(3))
	if _, err := r.Manifest(t.Context(), x, ref(t, "1")); !upstreamError(t, err).Outage() {
		t.Error(err)
	}
}

func TestResolveFallsBackToGET(t *testing.T) {
	for name, test := range map[string]struct {
		fault remotetest.Fault
		head  int
		tag   bool // only a tag needs the GET
	}{
		"405":           {remotetest.Status(405), 405, false},
		"501":           {remotetest.Status(501), 501, false},
		"no digest":     {remotetest.Header("Docker-Content-Digest", ""), 200, true},
		"no length":     {remotetest.NoLength(), 200, false},
		"no media type": {remotetest.Header("Content-Type", "application/octet-stream"), 200, false},
	} {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			img := u.AddImage("x", "1")
			u.Fault("HEAD /v2/x/manifests/", test.fault)
			r, x := open(t, u.URL()), repo(t, "x")
			for _, by := range []origin.Ref{ref(t, "1"), origin.ByDigest(img.Digest)} {
				u.Take()
				d, err := r.Resolve(t.Context(), x, by)
				if err != nil || d.Digest != img.Digest || d.Size != img.Size || d.MediaType != img.MediaType {
					t.Errorf("%s: %+v, %v", by, d, err)
				}
				if got := u.Count("GET /v2/x/manifests/" + by.String()); (got == 0) != (test.tag && by.Tag() == "") {
					t.Errorf("%s: %d GETs", by, got)
				}
			}
		})
	}
	u := remotetest.New(t)
	img := u.AddImage("x", "1")
	u.Fault("HEAD", remotetest.WrongDigest())
	if _, err := open(t, u.URL()).Resolve(t.Context(), repo(t, "x"), origin.ByDigest(img.Digest)); !upstreamError(t, err).Outage() {
		t.Error(err)
	}
}

func TestStat(t *testing.T) {
	tests := map[string]struct {
		method string
		fault  remotetest.Fault
		size   int64 // -2 = an outage
	}{
		"as it is":     {"HEAD", nil, 5},
		"no length":    {"HEAD", remotetest.NoLength(), -1},
		"405":          {"HEAD", remotetest.Status(405), 5},
		"wrong digest": {"HEAD", remotetest.WrongDigest(), -2},
		"html":         {"HEAD", remotetest.HTML(), -2},
		"gzip":         {"HEAD", remotetest.Gzip(), -2},
		"500":          {"HEAD", remotetest.Status(500), -2},
		"CDN says 403": {"HEAD cdn:", remotetest.Status(403), -2},
		"CDN says 404": {"HEAD cdn:", remotetest.Status(404), -2},
		"CDN as it is": {"HEAD cdn:", remotetest.Header("Docker-Content-Digest", ""), 5},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			if strings.HasPrefix(name, "CDN") {
				u.CDN()
			}
			b := u.AddBlob("x", []byte("12345"))
			if test.fault != nil {
				u.Fault(test.method, test.fault)
			}
			d, err := open(t, u.URL()).Stat(t.Context(), repo(t, "x"), b.Digest)
			if test.size == -2 {
				if e := upstreamError(t, err); !e.Outage() {
					t.Error(err)
				}
				return
			}
			if err != nil || d.Size != test.size || d.Digest != b.Digest || d.Source.Upstream != u.Host() {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
}

func TestBlobRanges(t *testing.T) {
	content := []byte("0123456789")
	var d digest.Digest
	ignores := remotetest.Fault(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			next.ServeHTTP(w, r)
		})
	})
	servers := map[string][]remotetest.Fault{
		"takes ranges":               {},
		"ignores ranges":             {ignores},
		"ignores ranges, of no size": {remotetest.NoLength(), ignores},
		"takes ranges, of no length": {remotetest.NoLength()},
	}
	tests := []struct {
		r      store.Range
		header string
		want   string
		off    int64
		past   bool
	}{
		{r: store.Range{}, want: "0123456789"},
		{r: store.Range{Off: 0, Len: 4}, header: "bytes=0-3", want: "0123"},
		{r: store.Range{Off: 3}, header: "bytes=3-", want: "3456789", off: 3},
		{r: store.Range{Off: 3, Len: 4}, header: "bytes=3-6", want: "3456", off: 3},
		{r: store.Range{Off: 8, Len: 100}, header: "bytes=8-107", want: "89", off: 8},
		{r: store.Range{Off: 9, Len: math.MaxInt64}, header: "bytes=9-", want: "9", off: 9},
		{r: store.Range{Off: -3}, header: "bytes=-3", want: "789", off: 7},
		{r: store.Range{Off: -3, Len: 2}, header: "bytes=-3", want: "78", off: 7},
		{r: store.Range{Off: -100}, header: "bytes=-100", want: "0123456789", off: 0},
		{r: store.Range{Off: 10}, header: "bytes=10-", past: true},
		{r: store.Range{Off: math.MaxInt64, Len: 1}, header: "bytes=9223372036854775807-", past: true},
	}
	for name, faults := range servers {
		t.Run(name, func(t *testing.T) {
			for _, test := range tests {
				u := remotetest.New(t)
				d = u.AddBlob("x", content).Digest
				for _, f := range faults {
					u.Fault("/blobs/", f)
				}
				b, err := open(t, u.URL()).Blob(t.Context(), repo(t, "x"), d, test.r)
				if log := u.Log(); log[len(log)-1].Range != test.header {
					t.Errorf("%+v is asked for as %q", test.r, log[len(log)-1].Range)
				}
				sizeless := name == "ignores ranges, of no size"
				if sizeless && test.r.Off < 0 {
					if e := upstreamError(t, err); !e.Outage() {
						t.Errorf("%+v: %v", test.r, err)
					}
					continue
				}
				var got []byte
				if err == nil {
					got, err = io.ReadAll(b.Body)
					b.Body.Close()
				}
				if test.past {
					if !errors.Is(err, store.ErrRange) {
						t.Errorf("%+v: %v", test.r, err)
					}
					continue
				}
				if err != nil || string(got) != test.want || b.Offset != test.off {
					t.Errorf("%+v: %q at %d, %v", test.r, got, b.Offset, err)
				}
				if b.Length != int64(len(test.want)) && (b.Length != -1 || !strings.Contains(name, " of no ")) {
					t.Errorf("%+v: length %d", test.r, b.Length)
				}
				if b.Size != int64(len(content)) && (b.Size != -1 || !strings.Contains(name, " of no ")) {
					t.Errorf("%+v: size %d", test.r, b.Size)
				}
			}
		})
	}
}

func TestBlobThatIsNotWhatItShouldBe(t *testing.T) {
	part := func(contentRange, body string) remotetest.Fault {
		return remotetest.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, body)
			return true
		})
	}
	tests := map[string]struct {
		r     store.Range
		fault remotetest.Fault
	}{
		"206 for the whole":    {store.Range{}, part("bytes 0-9/10", "0123456789")},
		"another range":        {store.Range{Off: 2, Len: 2}, part("bytes 0-1/10", "01")},
		"less than asked for":  {store.Range{Off: 2, Len: 4}, part("bytes 2-3/10", "23")},
		"less than to the end": {store.Range{Off: 2}, part("bytes 2-3/10", "23")},
		"more than asked for":  {store.Range{Off: 2, Len: 1}, part("bytes 2-3/10", "23")},
		"an end nobody knows":  {store.Range{Off: 2}, part("bytes 2-3/*", "23")},
		"no Content-Range":     {store.Range{Off: 2}, part("", "23")},
		"another length":       {store.Range{Off: 2, Len: 3}, part("bytes 2-4/10", "23")},
		"two ranges":           {store.Range{Off: 2, Len: 3}, part("bytes 2-4,6-7/10", "234")},
		"gzip":                 {store.Range{}, remotetest.Gzip()},
		"html":                 {store.Range{}, remotetest.HTML()},
		"wrong digest":         {store.Range{}, remotetest.WrongDigest()},
		"no content":           {store.Range{}, status(http.StatusNoContent)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			d := u.AddBlob("x", []byte("0123456789")).Digest
			undo := u.Fault("/blobs/", test.fault)
			r, x := open(t, u.URL()), repo(t, "x")
			b, err := r.Blob(t.Context(), x, d, test.r)
			if e := upstreamError(t, err); !e.Outage() || b.Body != nil {
				t.Error(err)
			}
			undo()
			if got := readBlob(t, r, x, d); got != "0123456789" {
				t.Errorf("asked again: %q", got)
			}
		})
	}
}

func TestBlobThatBreaksOff(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 20_000)
	for name, test := range map[string]struct {
		r      store.Range
		faults []remotetest.Fault
		have   int
	}{
		"whole":      {store.Range{}, []remotetest.Fault{remotetest.Cut(150_000)}, 150_000},
		"range":      {store.Range{Off: 50_000}, []remotetest.Fault{remotetest.Cut(100_000)}, 100_000},
		"at once":    {store.Range{}, []remotetest.Fault{remotetest.Cut(1)}, 1},
		"in a chunk": {store.Range{}, []remotetest.Fault{remotetest.Cut(150_000), remotetest.NoLength()}, 150_000},
	} {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			d := u.AddBlob("x", content).Digest
			for _, f := range test.faults {
				u.Fault("/blobs/", f)
			}
			b, err := open(t, u.URL()).Blob(t.Context(), repo(t, "x"), d, test.r)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Body.Close()
			got, err := io.ReadAll(b.Body)
			if e := upstreamError(t, err); !e.Outage() || e.Timeout || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
			if !bytes.Equal(got, content[test.r.Off:int(test.r.Off)+test.have]) {
				t.Errorf("%d bytes before", len(got))
			}
		})
	}
}

func TestStatusesKeepTheirMeaning(t *testing.T) {
	outage := (*origin.UpstreamError).Outage
	tests := []struct {
		fault  remotetest.Fault
		is     func(*origin.UpstreamError) bool
		client int
	}{
		{remotetest.Status(404), (*origin.UpstreamError).NotThere, 404},
		{remotetest.Status(410), (*origin.UpstreamError).NotThere, 404},
		{remotetest.Status(401), (*origin.UpstreamError).Denied, 404},
		{remotetest.Status(403), (*origin.UpstreamError).Denied, 404},
		{remotetest.Status(429, "Retry-After", "120"), func(e *origin.UpstreamError) bool {
			return e.Limited() && e.RetryAfter == 2*time.Minute
		}, 503},
		{remotetest.Status(400), outage, 502},
		{remotetest.Status(500), outage, 502},
		{remotetest.Status(503, "Retry-After", "1"), func(e *origin.UpstreamError) bool {
			return e.Outage() && e.RetryAfter == time.Second
		}, 502},
	}
	x := repo(t, "x")
	d := digest.FromString("a")
	for _, test := range tests {
		u := remotetest.New(t)
		u.Fault("/v2/x/", test.fault)
		r := open(t, u.URL())
		for name, ask := range map[string]struct {
			do      func(context.Context) error
			missing error
		}{
			"Resolve":   {func(ctx context.Context) error { _, err := r.Resolve(ctx, x, ref(t, "1")); return err }, origin.ErrManifestUnknown},
			"Manifest":  {func(ctx context.Context) error { _, err := r.Manifest(ctx, x, ref(t, "1")); return err }, origin.ErrManifestUnknown},
			"Stat":      {func(ctx context.Context) error { _, err := r.Stat(ctx, x, d); return err }, origin.ErrBlobUnknown},
			"Blob":      {func(ctx context.Context) error { _, err := r.Blob(ctx, x, d, store.Range{}); return err }, origin.ErrBlobUnknown},
			"Tags":      {func(ctx context.Context) error { _, err := r.Tags(ctx, x, origin.Page{N: 1}); return err }, origin.ErrNameUnknown},
			"Referrers": {func(ctx context.Context) error { _, err := r.Referrers(ctx, x, d, "", origin.Page{N: 1}); return err }, origin.ErrNameUnknown},
		} {
			u.Take()
			err := ask.do(t.Context())
			log := u.Take()
			what := fmt.Sprintf("%s, %s", name, log[len(log)-1])
			if name == "Referrers" && test.client == 404 && err == nil {
				continue // asked by the tag in their place, and it is not there either
			}
			if e := upstreamError(t, err); !test.is(e) || e.Endpoint != u.Host() || e.Timeout {
				t.Errorf("%s: %v", what, err)
			}
			client, ok := errors.AsType[*origin.Error](err)
			if !ok || client.HTTPStatus() != test.client || origin.Unknown(err) != (test.client == 404) {
				t.Errorf("%s: the client is told %v", what, client)
			}
			if test.client == 404 && !errors.Is(err, ask.missing) {
				t.Errorf("%s: %v", what, err)
			}
			gone, leave := context.WithCancel(t.Context())
			leave()
			if err := ask.do(gone); err != context.Canceled {
				t.Errorf("%s: who left is told %v", name, err)
			}
		}
	}
}

func TestNobodyThere(t *testing.T) {
	u := remotetest.New(t)
	at := u.URL()
	at.Host = "127.0.0.1:1"
	var statuses []int
	r := open(t, at, func(o *remote.Options) { o.OnRequest = func(status int) { statuses = append(statuses, status) } })
	_, err := r.Resolve(t.Context(), repo(t, "x"), ref(t, "1"))
	if e := upstreamError(t, err); !e.Outage() || e.Status != 0 || e.Timeout {
		t.Error(err)
	}
	if !reflect.DeepEqual(statuses, []int{0}) {
		t.Errorf("observed %v", statuses)
	}
}

func TestObserved(t *testing.T) {
	u := remotetest.New(t)
	d := u.AddBlob("x", []byte("12345")).Digest
	var statuses []int
	var read int64
	r := open(t, u.URL(), func(o *remote.Options) {
		o.OnRequest = func(status int) { statuses = append(statuses, status) }
		o.OnBytes = func(n int64) { read += n }
	})
	readBlob(t, r, repo(t, "x"), d)
	if !reflect.DeepEqual(statuses, []int{200, 200}) || read != 5 {
		t.Errorf("observed %v, %d bytes", statuses, read)
	}
}
