package remote_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
)

func TestStretch(t *testing.T) {
	content := []byte("0123456789")
	tests := map[string]struct {
		r      store.Range
		faults []remotetest.Fault
		header string // the Range that is sent
		want   string
		off    int64
		length int64
		size   int64
		past   bool
	}{
		"a part":                {r: store.Range{Len: 4}, header: "bytes=0-3", want: "0123", length: 4, size: 10},
		"a later part":          {r: store.Range{Off: 4, Len: 4}, header: "bytes=4-7", want: "4567", off: 4, length: 4, size: 10},
		"over the end":          {r: store.Range{Off: 8, Len: 4}, header: "bytes=8-11", want: "89", off: 8, length: 2, size: 10},
		"to the end":            {r: store.Range{Off: 8}, header: "bytes=8-", want: "89", off: 8, length: 2, size: 10},
		"the end":               {r: store.Range{Off: -2}, header: "bytes=-2", want: "89", off: 8, length: 2, size: 10},
		"the whole":             {want: "0123456789", length: 10, size: 10},
		"behind the end":        {r: store.Range{Off: 10, Len: 1}, header: "bytes=10-10", past: true},
		"no ranges":             {r: store.Range{Off: 4, Len: 4}, faults: []remotetest.Fault{remotetest.NoRanges()}, header: "bytes=4-7", want: "0123456789", length: 10, size: 10},
		"no ranges, the end":    {r: store.Range{Off: -4}, faults: []remotetest.Fault{remotetest.NoRanges()}, header: "bytes=-4", want: "0123456789", length: 10, size: 10},
		"no ranges, behind":     {r: store.Range{Off: 10}, faults: []remotetest.Fault{remotetest.NoRanges()}, header: "bytes=10-", past: true},
		"no ranges, no length":  {r: store.Range{Off: 4, Len: 4}, faults: []remotetest.Fault{remotetest.NoLength(), remotetest.NoRanges()}, header: "bytes=4-7", want: "0123456789", length: -1, size: -1},
		"no length":             {r: store.Range{Off: 4, Len: 4}, faults: []remotetest.Fault{remotetest.NoLength()}, header: "bytes=4-7", want: "4567", off: 4, length: 4, size: 10},
		"no length, the whole":  {faults: []remotetest.Fault{remotetest.NoLength()}, want: "0123456789", length: -1, size: -1},
		"a total nobody knows":  {r: store.Range{Off: 4, Len: 4}, faults: []remotetest.Fault{remotetest.Header("Content-Range", "bytes 4-7/*")}, header: "bytes=4-7", want: "4567", off: 4, length: 4, size: -1},
		"200 that says all":     {r: store.Range{Off: 4}, faults: []remotetest.Fault{remotetest.Header("Content-Range", "bytes 0-9/10"), remotetest.NoRanges()}, header: "bytes=4-", want: "0123456789", length: 10, size: 10},
		"no length asked for":   {r: store.Range{Len: -1}, past: true},
		"200 for a later range": {r: store.Range{Off: 9, Len: 1}, faults: []remotetest.Fault{remotetest.NoRanges()}, header: "bytes=9-9", want: "0123456789", length: 10, size: 10},
		"identity":              {r: store.Range{Off: 4, Len: 4}, faults: []remotetest.Fault{remotetest.Header("Content-Encoding", "identity")}, header: "bytes=4-7", want: "4567", off: 4, length: 4, size: 10},
		"no media type":         {r: store.Range{Off: 4, Len: 4}, faults: []remotetest.Fault{remotetest.Header("Content-Type", "")}, header: "bytes=4-7", want: "4567", off: 4, length: 4, size: 10},
		"a size that is less":   {faults: []remotetest.Fault{remotetest.LengthBy(-3)}, want: "0123456", length: 7, size: 7},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			d := u.AddBlob("x", content).Digest
			for _, f := range test.faults {
				u.Fault("/blobs/", f)
			}
			b, err := open(t, u.URL()).Stretch(t.Context(), repo(t, "x"), d, test.r)
			if log := u.Log(); len(log) > 0 && log[len(log)-1].Range != test.header {
				t.Errorf("asked for as %q", log[len(log)-1].Range)
			}
			if test.past {
				if !errors.Is(err, store.ErrRange) {
					t.Error(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer b.Body.Close()
			got, err := io.ReadAll(b.Body)
			if err != nil || string(got) != test.want || b.Offset != test.off || b.Length != test.length || b.Size != test.size {
				t.Errorf("%q at %d, length %d of %d, %v", got, b.Offset, b.Length, b.Size, err)
			}
		})
	}
}

// A blob of no bytes has no first one to ask for; what answers with all of it is
// taken at its word.
func TestStretchOfNothing(t *testing.T) {
	u := remotetest.New(t)
	d := u.AddBlob("x", nil).Digest
	r, x := open(t, u.URL()), repo(t, "x")
	for _, rng := range []store.Range{{}, {Len: 5}} {
		b, err := r.Stretch(t.Context(), x, d, rng)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Body.Close()
		if got, err := io.ReadAll(b.Body); err != nil || len(got) != 0 || b.Size != 0 || b.Length != 0 {
			t.Errorf("%+v: %q, %+v, %v", rng, got, b, err)
		}
	}
	if _, err := r.Stretch(t.Context(), x, d, store.Range{Off: 1}); !errors.Is(err, store.ErrRange) {
		t.Error(err)
	}
}

// Whatever ends a stretch early says so, and leaves what came before to whoever
// goes on from there.
func TestStretchThatEndsEarly(t *testing.T) {
	content := strings.Repeat("0123456789", 10_000)
	tests := map[string]struct {
		faults  []remotetest.Fault
		come    int
		timeout bool
	}{
		"it is cut":              {[]remotetest.Fault{remotetest.Cut(30_000)}, 30_000, false},
		"it is cut at once":      {[]remotetest.Fault{remotetest.Cut(0)}, 0, false},
		"it is cut in a chunk":   {[]remotetest.Fault{remotetest.Cut(30_000), remotetest.NoLength()}, 30_000, false},
		"it hangs":               {[]remotetest.Fault{remotetest.HangAt(30_000)}, 30_000, true},
		"it never begins":        {[]remotetest.Fault{remotetest.HangAt(0)}, 0, true},
		"it hangs, no ranges":    {[]remotetest.Fault{remotetest.HangAt(30_000), remotetest.NoRanges()}, 30_000, true},
		"it is less, no ranges":  {[]remotetest.Fault{remotetest.LengthBy(1), remotetest.NoRanges()}, 100_000, false},
		"it is cut, no ranges":   {[]remotetest.Fault{remotetest.Cut(30_000), remotetest.NoRanges()}, 30_000, false},
		"it hangs in a chunk":    {[]remotetest.Fault{remotetest.HangAt(30_000), remotetest.NoLength()}, 30_000, true},
		"it is cut at the CDN":   {[]remotetest.Fault{remotetest.Cut(30_000)}, 30_000, false},
		"it hangs at the CDN":    {[]remotetest.Fault{remotetest.HangAt(30_000)}, 30_000, true},
		"it is cut by its owner": {[]remotetest.Fault{remotetest.CloseDelimited(), remotetest.Cut(30_000)}, 30_000, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := remotetest.New(t)
			at := "/v2/x/blobs/"
			if strings.HasSuffix(name, "CDN") {
				u.CDN()
				at = "cdn:"
			}
			d := u.AddBlob("x", []byte(content)).Digest
			var undo []func()
			for _, f := range test.faults {
				undo = append(undo, u.Fault(at, f))
			}
			r := open(t, u.URL(), func(o *remote.Options) {
				if test.timeout {
					o.Timeouts.Stall = 5 * time.Second // more than a busy machine needs for what does come
				}
			})
			x := repo(t, "x")
			got, err := stretch(t, r, x, d, 0, 80_000)
			if e := upstreamError(t, err); !e.Outage() || e.Timeout != test.timeout || !test.timeout && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
			if got != content[:test.come] {
				t.Errorf("%d bytes came", len(got))
			}
			for _, f := range undo {
				f()
			}
			if off := int64(test.come); off < 80_000 {
				wantStretch(t, open(t, u.URL()), x, d, off, 80_000-off, content[off:80_000])
			}
		})
	}
}
