package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/s3/s3test"
)

func TestBodiesThatBreak(t *testing.T) {
	server := s3test.Start(t)
	r := newRig(t, server)
	data := large[:3<<20]
	d, err := push(t, r.Blobs(), data)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("cut, and taken up again", func(t *testing.T) {
		r.nth("/data/", s3test.Cut(100), s3test.Cut(1<<20), s3test.Reset, s3test.Cut(2<<20))
		if got, err := pull(t, r.Blobs(), d); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("a range, cut", func(t *testing.T) {
		r.nth("/data/", s3test.Cut(100), s3test.Cut(1000))
		b, err := r.Blobs().Open(t.Context(), d, store.Range{Off: 1 << 20, Len: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(b.Body)
		if err = errors.Join(err, b.Body.Close()); err != nil || !bytes.Equal(got, data[1<<20:2<<20]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("cut for ever", func(t *testing.T) {
		r.faults.Set(func(req *http.Request) s3test.Fault {
			if strings.Contains(line(req), "/data/") {
				return s3test.Cut(0)
			}
			return s3test.None
		})
		got, err := pull(t, r.Blobs(), d)
		if err == nil || len(got) > 0 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if n := r.attempts("/data/"); n != 5 {
			t.Errorf("%d attempts, want 5", n)
		}
	})
	for _, at := range []int64{0, 1 << 20, int64(len(data)) - 1} {
		t.Run(fmt.Sprint("byte ", at, " is another"), func(t *testing.T) {
			r.nth("/data/", s3test.Flip(at))
			got, err := pull(t, r.Blobs(), d)
			if err == nil || len(got) >= len(data) {
				t.Errorf("%d bytes of %d, %v: complete, and wrong", len(got), len(data), err)
			}
		})
	}
	t.Run("a record with another byte", func(t *testing.T) {
		if _, err := r.Records().Put(t.Context(), "a", []byte("value"), store.Absent()); err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{0, 31, 32, 33, 41, 42, 46} {
			r.nth("/records/", s3test.Flip(at))
			if got, err := r.Records().Get(t.Context(), "a"); err != nil || string(got.Data) != "value" {
				t.Errorf("byte %d: %q, %v", at, got.Data, err)
			}
			f := s3test.Flip(at)
			r.nth("/records/", f, f, f, f, f)
			if got, err := r.Records().Get(t.Context(), "a"); err == nil || errors.Is(err, store.ErrNotFound) {
				t.Errorf("byte %d, for ever: %q, %v", at, got.Data, err)
			}
		}
	})
}
