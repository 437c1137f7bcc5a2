package evict_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// shelf is a store of blobs that have names and sizes, and no bytes.
type shelf struct {
	mu      sync.Mutex
	blobs   map[digest.Digest]origin.Evictable
	fail    func(d digest.Digest) error // nil: nothing fails
	evicted []string                    // names, in order
	sparing []string                    // names, in order
	listing chan struct{}               // not nil: a listing waits for it
	slow    chan struct{}               // not nil: a removal waits for it
}

func (s *shelf) Evictable(ctx context.Context) iter.Seq2[origin.Evictable, error] {
	return func(yield func(origin.Evictable, error) bool) {
		if s.listing != nil {
			select {
			case <-s.listing:
			case <-ctx.Done():
				yield(origin.Evictable{}, ctx.Err())
				return
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, info := range s.blobs {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (s *shelf) Evict(_ context.Context, d digest.Digest) error {
	if s.slow != nil {
		<-s.slow
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(d); err != nil {
			return err
		}
	}
	if _, ok := s.blobs[d]; !ok {
		return origin.ErrBlobUnknown
	}
	delete(s.blobs, d)
	s.evicted = append(s.evicted, nameOf(d))
	return nil
}

func (s *shelf) MayEvict(_ context.Context, d digest.Digest) (origin.Evictable, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, ok := s.blobs[d]
	if !ok {
		return origin.Evictable{}, origin.ErrBlobUnknown
	}
	return info, nil
}

func (s *shelf) EvictFrom(_ context.Context, repo origin.Repo, d digest.Digest) error {
	if s.slow != nil {
		<-s.slow
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(d); err != nil {
			return err
		}
	}
	b := s.blobs[d]
	i := slices.Index(b.Repos, repo)
	switch {
	case i < 0:
		return origin.ErrBlobUnknown
	case len(b.Repos) == 1:
		return origin.ErrOnly
	}
	b.Repos = slices.Delete(slices.Clone(b.Repos), i, i+1)
	s.blobs[d] = b
	s.evicted = append(s.evicted, repo.String()+"/"+nameOf(d))
	return nil
}

func (s *shelf) Spare(_ context.Context, d digest.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sparing = append(s.sparing, nameOf(d))
	return nil
}

func (s *shelf) bytes() (n int64) {
	for _, info := range s.blobs {
		n += info.Size
	}
	return n
}

// blob is the digest of a name, which it begins with.
func blob(name string) digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, fmt.Sprintf("%x%s", name, strings.Repeat("0", 64-2*len(name))))
}

func nameOf(d digest.Digest) string {
	var b []byte
	if _, err := fmt.Sscanf(strings.TrimRight(d.Encoded(), "0"), "%x", &b); err != nil {
		return d.String()
	}
	return string(b)
}

// rig is a cache over a shelf. Everything happens in a bubble.
type rig struct {
	t       *testing.T
	repo    origin.Repo // that everything is in
	shelf   *shelf
	records *mem.Records
	opts    evict.Options
	*evict.Cache
}

func run(t *testing.T, o evict.Options, do func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, shelf: newShelf(), records: mem.NewRecords(), opts: o}
		r.start()
		do(t, r)
		r.close()
	})
}

func (r *rig) start() {
	r.Cache = evict.New(r.shelf, r.records, r.opts)
	r.Start()
	synctest.Wait()
}

func (r *rig) close() {
	r.t.Helper()
	if err := r.Close(r.t.Context()); err != nil {
		r.t.Error(err)
	}
}

// pull fetches a blob of that size and stores it.
func (r *rig) pull(name string, size int64) error {
	d := blob(name)
	if err := r.Reserve(r.repo, d, size); err != nil {
		return err
	}
	defer r.Release(r.repo, d, size)
	synctest.Wait()
	r.put(name, size)
	r.Stored(r.repo, d, size)
	synctest.Wait()
	return nil
}

func (r *rig) put(name string, size int64) {
	r.shelf.mu.Lock()
	defer r.shelf.mu.Unlock()
	d := blob(name)
	repos := r.shelf.blobs[d].Repos
	if !slices.Contains(repos, r.repo) {
		repos = append(slices.Clone(repos), r.repo)
	}
	r.shelf.blobs[d] = origin.Evictable{Info: store.Info{Digest: d, Size: size, Modified: time.Now()}, Repos: repos}
}

// pulls pulls what must have room.
func (r *rig) pulls(size int64, names ...string) {
	r.t.Helper()
	for _, name := range names {
		if err := r.pull(name, size); err != nil {
			r.t.Fatalf("pull %s: %v", name, err)
		}
	}
}

// image says that a manifest was used.
func (r *rig) image(name string, blobs ...string) {
	var list []digest.Digest
	for _, b := range blobs {
		list = append(list, blob(b))
	}
	r.Image(r.repo, blob(name), list)
}

// want wants those blobs to be there, and no others.
func (r *rig) want(names ...string) {
	r.t.Helper()
	synctest.Wait()
	r.shelf.mu.Lock()
	defer r.shelf.mu.Unlock()
	var got []string
	for d := range r.shelf.blobs {
		got = append(got, nameOf(d))
	}
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		r.t.Errorf("there are %v, want %v (evicted: %v)", got, names, r.shelf.evicted)
	}
}

func newShelf() *shelf { return &shelf{blobs: map[digest.Digest]origin.Evictable{}} }

// lame is a shelf that cannot be listed at first.
type lame struct {
	*shelf
	tried atomic.Bool
}

func (l *lame) Evictable(ctx context.Context) iter.Seq2[origin.Evictable, error] {
	if l.tried.Swap(true) {
		return l.shelf.Evictable(ctx)
	}
	return func(yield func(origin.Evictable, error) bool) { yield(origin.Evictable{}, syscall.EIO) }
}
