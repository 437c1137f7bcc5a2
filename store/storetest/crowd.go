package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

var crowdCases = []blobCase{
	{"crowd: 32 ingests of one content", func(t *testing.T, b store.Blobs) {
		data := random(100_000)
		d := digest.FromBytes(data)
		crowd(t, 32, func(int) error { return tryPut(t.Context(), b, data) })
		wantBytes(t, read(t, b, d, store.Range{}), data)
		if got := all(t, b); len(got) != 1 {
			t.Errorf("All = %v, want one", got)
		}
		if got := ingests(t, b); len(got) != 0 {
			t.Errorf("Ingests = %v, want none", got)
		}
	}},
	{"crowd: 32 ingests of different content", func(t *testing.T, b store.Blobs) {
		crowd(t, 32, func(i int) error { return tryPut(t.Context(), b, random(i)) })
		for i := range 32 {
			wantBytes(t, read(t, b, digest.FromBytes(random(i)), store.Range{}), random(i))
		}
	}},
	{"crowd: commits at once", func(t *testing.T, b store.Blobs) {
		data := random(5000)
		d := digest.FromBytes(data)
		open := make([]store.Ingest, 16)
		for i := range open {
			open[i] = begin(t, b, "", digest.SHA256)
			write(t, open[i], data)
		}
		crowd(t, len(open), func(i int) error {
			info, err := open[i].Commit(t.Context(), d)
			if err == nil && (info.Digest != d || info.Size != int64(len(data))) {
				err = fmt.Errorf("committed as %+v", info)
			}
			return err
		})
		wantBytes(t, read(t, b, d, store.Range{}), data)
	}},
	{"crowd: one of many resumes", func(t *testing.T, b store.Blobs) {
		ing := begin(t, b, "", digest.SHA256)
		must(t, ing.Close())
		var mu sync.Mutex
		var held []store.Ingest
		crowd(t, 16, func(int) error {
			got, err := b.Ingest(t.Context(), ing.ID(), digest.SHA256)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				held = append(held, got)
			} else if !errors.Is(err, store.ErrBusy) {
				return err
			}
			return nil
		})
		for _, got := range held {
			must(t, got.Close())
		}
		if len(held) != 1 {
			t.Errorf("%d hold the ingest, want 1", len(held))
		}
	}},
	{"crowd: commits and deletes", func(t *testing.T, b store.Blobs) {
		data := random(5000)
		d := digest.FromBytes(data)
		crowd(t, 16, func(i int) error {
			if i%2 == 0 {
				return tryPut(t.Context(), b, data)
			}
			if err := b.Delete(t.Context(), d); !errors.Is(err, store.ErrNotFound) {
				return err
			}
			return nil
		})
		put(t, b, data)
		wantBytes(t, read(t, b, d, store.Range{}), data)
	}},
}

// crowd runs do n times at once and reports what fails.
func crowd(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	start := make(chan struct{})
	errs := make(chan error, n)
	for i := range n {
		go func() {
			<-start
			errs <- do(i)
		}()
	}
	close(start)
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// tryPut stores data, in two writes, from any goroutine.
func tryPut(ctx context.Context, b store.Blobs, data []byte) error {
	ing, err := b.Ingest(ctx, "", digest.SHA256)
	if err != nil {
		return err
	}
	defer ing.Cancel()
	for _, part := range [][]byte{data[:len(data)/2], data[len(data)/2:]} {
		if _, err := ing.Write(part); err != nil {
			return err
		}
	}
	info, err := ing.Commit(ctx, digest.FromBytes(data))
	if err == nil && info.Size != int64(len(data)) {
		err = fmt.Errorf("committed %d bytes of %d", info.Size, len(data))
	}
	return err
}
