package fill

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// content gives n bytes that differ from place to place.
func content(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{7})
	_, _ = r.Read(b)
	return b
}

// upstream is a Source with a rate, and with a hand on what it gives.
type upstream struct {
	data  []byte
	size  int64                 // that it says; -1: none
	told  int64                 // that a manifest said; -1: none
	plain bool                  // it has no ranges
	pause time.Duration         // before each 64 KiB
	fault func(off int64) error // instead of the byte at off
	flip  func(ask int, off int64) bool

	mu    sync.Mutex
	asked []string // "off+n", in order
	given int64    // bytes read of its streams
	open  int      // streams not closed
	most  int      // streams open at a time
}

func newUpstream(data []byte) *upstream {
	return &upstream{data: data, size: int64(len(data)), told: -1}
}

// known is u of a size that a manifest told.
func (u *upstream) known() *upstream {
	u.told = int64(len(u.data))
	return u
}

func (u *upstream) source(ctx context.Context, off, n int64) (Stream, error) {
	u.mu.Lock()
	ask := len(u.asked)
	u.asked = append(u.asked, fmt.Sprintf("%d%+d", off, n))
	u.mu.Unlock()
	part := off > 0 || n >= 0
	if u.plain {
		off, n = 0, -1
	}
	end, length := int64(len(u.data)), int64(-1)
	if off >= end && part && !u.plain {
		return Stream{}, store.ErrRange
	}
	if n >= 0 {
		end = min(end, off+n)
	}
	if part && !u.plain {
		length = end - off
	} else if u.size >= 0 {
		length = u.size
	}
	u.mu.Lock()
	u.open++
	u.most = max(u.most, u.open)
	u.mu.Unlock()
	return Stream{ReadCloser: &stream{u: u, ctx: ctx, ask: ask, off: off, end: end}, Offset: off, Length: length, Size: u.size, Upstream: "up.test"}, nil
}

func (u *upstream) asks() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked
}

type stream struct {
	u        *upstream
	ctx      context.Context
	ask      int
	off, end int64
}

func (s *stream) Read(p []byte) (int, error) {
	if s.u.pause > 0 {
		select {
		case <-time.After(s.u.pause):
		case <-s.ctx.Done():
			return 0, context.Cause(s.ctx)
		}
	}
	if s.u.fault != nil {
		if err := s.u.fault(s.off); err != nil {
			return 0, err
		}
	}
	if s.off >= s.end {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 64<<10)], s.u.data[s.off:s.end])
	for i := 0; s.u.flip != nil && i < n; i++ {
		if s.u.flip(s.ask, s.off+int64(i)) {
			p[i] ^= 1
		}
	}
	s.off += int64(n)
	s.u.mu.Lock()
	s.u.given += int64(n)
	s.u.mu.Unlock()
	return n, nil
}

func (s *stream) Close() error {
	s.u.mu.Lock()
	s.u.open--
	s.u.mu.Unlock()
	return nil
}

// shelf is a Keep that remembers.
type shelf struct {
	mu   sync.Mutex
	kept [][]byte
	err  error
}

func (s *shelf) keep(_ context.Context, f *os.File, size int64) error {
	b, err := io.ReadAll(f)
	if err != nil || int64(len(b)) != size {
		return fmt.Errorf("spool of %d bytes has %d: %w", size, len(b), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, b)
	return s.err
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

// rig is a Group with its spools and a place for what it keeps.
type rig struct {
	*Group
	t      *testing.T
	dir    string
	spools *Spools
	shelf
}

func newRig(t *testing.T, opts Options) *rig {
	t.Helper()
	return newRigAt(t, t.TempDir(), opts)
}

func newRigAt(t *testing.T, dir string, opts Options) *rig {
	t.Helper()
	spools, err := OpenSpools(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{Group: NewGroup(spools, opts), t: t, dir: dir, spools: spools}
}

func key(data []byte) Key {
	repo, err := origin.ParseRepo("library/nginx")
	if err != nil {
		panic(err)
	}
	return Key{Upstream: "docker.io", Repo: repo, Digest: digest.FromBytes(data)}
}

// follow joins the fill of u's data and opens r.
func (r *rig) follow(ctx context.Context, u *upstream, rng store.Range) (origin.Blob, error) {
	f, _, err := r.Join(ctx, key(u.data), u.told, u.source, r.keep)
	if err != nil {
		return origin.Blob{}, err
	}
	return f.Follow(ctx, rng)
}

// get reads a range to its end, by WriteTo or by Read.
func (r *rig) get(ctx context.Context, u *upstream, rng store.Range, byRead bool) ([]byte, error) {
	b, err := r.follow(ctx, u, rng)
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.Body.Close() }()
	var buf bytes.Buffer
	buf.Grow(len(u.data) + bytes.MinRead)
	if byRead {
		_, err = buf.ReadFrom(b.Body)
	} else {
		_, err = b.Body.(io.WriterTo).WriteTo(&buf)
	}
	return buf.Bytes(), err
}

// done ends the group and checks that nothing is left of it.
func (r *rig) done(us ...*upstream) {
	r.t.Helper()
	if err := r.Close(context.Background()); err != nil {
		r.t.Errorf("close: %v", err)
	}
	if left := r.left(); len(left) > 0 {
		r.t.Errorf("left: %v", left)
	}
	for _, u := range us {
		u.mu.Lock()
		if u.open != 0 {
			r.t.Errorf("%d streams are open", u.open)
		}
		u.mu.Unlock()
	}
}

// left gives the names of the files that are there for spools.
func (r *rig) left() (names []string) {
	r.t.Helper()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
