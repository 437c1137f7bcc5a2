package remote_test

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
)

// noRanges is an upstream that answers every range with the whole.
func noRanges() remotetest.Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			next.ServeHTTP(w, r)
		})
	}
}

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
		"no ranges":             {r: store.Range{Off: 4, Len: 4}, faults: []remotetest.Fault{noRanges()}, header: "bytes=4-7", want: "0123456789", length: 10, size: 10},
		"no ranges, the end":    {r: store.Range{Off: -4}, faults: []remotetest.Fault{noRanges()}, header: "bytes=-4", want: "0123456789", length: 10, size: 10},
		"no ranges, behind":     {r: store.Range{Off: 10}, faults: []remotetest.Fault{noRanges()}, header: "bytes=10-", past: true},
		"no ranges, no length":  {r: store.Range{Off: 4, Len: 4}, faults: []remotetest.Fault{remotetest.NoLength(), noRanges()}, header: "bytes=4-7", want: "0123456789", length: -1, size: -1},
		"no length":             {r: store.Range{Off: 4, Len: 4}, faults: []remotetest.Fault{remotetest.NoLength()}, header: "bytes=4-7", want: "4567", off: 4, length: 4, size: 10},
		"no length, the whole":  {faults: []remotetest.Fault{remotetest.NoLength()}, want: "0123456789", length: -1, size: -1},
		"a total nobody knows":  {r: store.Range{Off: 4, Len: 4}, faults: []remotetest.Fault{remotetest.Header("Content-Range", "bytes 4-7/*")}, header: "bytes=4-7", want: "4567", off: 4, length: 4, size: -1},
		"200 that says all":     {r: store.Range{Off: 4}, faults: []remotetest.Fault{remotetest.Header("Content-Range", "bytes 0-9/10"), noRanges()}, header: "bytes=4-", want: "0123456789", length: 10, size: 10},
		"a length that is less": {r: store.Range{Len: -1}, past: true},
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
