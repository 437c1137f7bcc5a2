package remote_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
)

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
	servers := map[string][]remotetest.Fault{
		"takes ranges":               {},
		"ignores ranges":             {remotetest.NoRanges()},
		"ignores ranges, of no size": {remotetest.NoLength(), remotetest.NoRanges()},
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
	says := func(status int, mediaType, contentRange, body string) remotetest.Fault {
		return remotetest.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", mediaType)
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
			return true
		})
	}
	const octets = "application/octet-stream"
	part := func(contentRange, body string) remotetest.Fault {
		return says(http.StatusPartialContent, octets, contentRange, body)
	}
	whole := func(contentRange, body string) remotetest.Fault {
		return says(http.StatusOK, octets, contentRange, body)
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
		"several parts":        {store.Range{Off: 2, Len: 2}, remotetest.AsRange("bytes=2-3,6-7")},
		"parts in disguise":    {store.Range{Off: 2, Len: 2}, says(http.StatusPartialContent, "multipart/byteranges; boundary=b", "bytes 2-3/10", "23")},
		"another unit":         {store.Range{Off: 2, Len: 2}, part("items 2-3/10", "23")},
		"less than nothing":    {store.Range{Off: 2, Len: 2}, part("bytes 3-2/10", "")},
		"behind its own end":   {store.Range{Off: 2, Len: 2}, part("bytes 2-3/3", "23")},
		"gzip of a range":      {store.Range{Off: 2, Len: 2}, remotetest.Gzip()},
		"range of a gzip":      {store.Range{Off: 2, Len: 2}, remotetest.Header("Content-Encoding", "gzip")},
		"length of the whole":  {store.Range{Off: 2, Len: 2}, remotetest.LengthBy(8)},
		"200 that is a part":   {store.Range{Off: 2, Len: 2}, whole("bytes 2-3/10", "23")},
		"200 that may be one":  {store.Range{Off: 2, Len: 2}, whole("bytes 0-3/10", "0123")},
		"200 of a part":        {store.Range{}, whole("bytes 0-3/10", "0123")},
		"200 of who knows":     {store.Range{Off: 2}, whole("all of it", "0123456789")},
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
			for name, ask := range map[string]func(context.Context, origin.Repo, digest.Digest, store.Range) (origin.Blob, error){
				"Blob": r.Blob, "Stretch": r.Stretch,
			} {
				b, err := ask(t.Context(), x, d, test.r)
				if e := upstreamError(t, err); !e.Outage() || e.Status != 0 || b.Body != nil {
					t.Errorf("%s: %v", name, err)
				}
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
