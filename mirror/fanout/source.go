package fanout

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Source gives stretches of one blob, for one download. They are spread over the
// endpoints that have it and are no fallback; it remembers which have not, and which broke off.
type Source struct {
	fanout *Fanout
	repo   origin.Repo
	digest digest.Digest

	mu    sync.Mutex
	turn  int // how often it was asked
	known map[*endpoint]*memory
}

// memory is what a download knows of an endpoint.
type memory struct {
	no    error // it said that it has not got the blob
	whole bool  // it has no ranges
	gave  bool  // bytes of the blob came from it
	limit bool  // it refused the blob for its limits
	broke int   // how often it failed
}

// Source makes a Source of a blob. Nothing is asked yet.
func (f *Fanout) Source(repo origin.Repo, d digest.Digest) *Source {
	s := &Source{fanout: f, repo: repo, digest: d, known: map[*endpoint]*memory{}}
	for _, e := range f.endpoints {
		s.known[e] = &memory{}
	}
	return s
}

// Stretch asks for a range, which may be answered with the whole: see
// origin.Ranger. It may be called again for what is missing when a body breaks off,
// and at the same time for different ranges. Errors: as [Fanout.Blob].
func (s *Source) Stretch(ctx context.Context, r store.Range) (origin.Blob, error) {
	for {
		var passed atomic.Bool // over an endpoint without ranges
		b, err := s.fanout.blob(ctx, s.choose(), s.repo, s.digest, func(ctx context.Context, e *endpoint) (origin.Blob, error) {
			b, err := s.open(ctx, e, r)
			if err != nil {
				s.failed(ctx, e, err)
				return b, err
			}
			if r.Off > 0 && b.Offset == 0 && s.passOver(e) {
				passed.Store(true)
				_ = b.Body.Close() // it would be read over
				return origin.Blob{}, &origin.UpstreamError{Endpoint: e.Host, Err: origin.Outage(false, "upstream "+e.Host+" has no ranges", nil)}
			}
			s.note(e, func(m *memory) { m.gave = true })
			b.Body = &watched{ReadCloser: b.Body, broke: func(err error) { s.failed(ctx, e, err) }}
			return b, nil
		})
		if err == nil || !passed.Load() || ctx.Err() != nil {
			return b, err
		}
		// Nobody has ranges of it: so it has to be the whole.
	}
}

// passOver takes note that e has no ranges. It reports whether the others should be
// asked first: not those of which that is known too.
func (s *Source) passOver(e *endpoint) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := !s.known[e].whole
	s.known[e].whole = true
	return news && len(s.known) > 1
}

func (s *Source) open(ctx context.Context, e *endpoint, r store.Range) (origin.Blob, error) {
	if ranger, ok := e.Reader.(origin.Ranger); ok {
		return ranger.Stretch(ctx, s.repo, s.digest, r)
	}
	return e.Reader.Blob(ctx, s.repo, s.digest, r)
}

// choose says whom to ask: by turns, those that have not failed before those that
// have, fallbacks in between, and those without ranges last.
func (s *Source) choose() choice {
	s.mu.Lock()
	defer s.mu.Unlock()
	var c choice
	var faithful []*endpoint
	for _, e := range s.fanout.endpoints {
		m := s.known[e]
		if m.no != nil {
			c.worst = worse(c.worst, m.no)
			continue
		}
		if why := e.shut(); why != nil {
			c.worst = worse(c.worst, why)
			if m.gave && (why.Limited() && !m.limit || why.Outage() && !why.Timeout) {
				faithful = append(faithful, e)
			}
			continue
		}
		c.list = append(c.list, e)
	}
	if len(c.list) == 0 {
		// A download that has begun may ask on where it came from, if that was shut for
		// what others met: to break it off costs more than a request.
		c.list, c.insists = faithful, true
	}
	var first, fallbacks []*endpoint
	for _, e := range c.list {
		if e.Fallback {
			fallbacks = append(fallbacks, e)
		} else {
			first = append(first, e)
		}
	}
	c.list = append(turned(first, s.turn), turned(fallbacks, s.turn)...)
	s.turn++
	rank := map[*endpoint]int{}
	for _, e := range c.list {
		rank[e] = 2 * s.known[e].rank()
		if e.Fallback {
			rank[e]++ // behind who has never failed, before who has
		}
		if e.askedLast() {
			rank[e] += often
		}
	}
	slices.SortStableFunc(c.list, func(a, b *endpoint) int { return rank[a] - rank[b] })
	return c
}

// turned is the list from the turn's element on, and then what is before that.
func turned(list []*endpoint, turn int) []*endpoint {
	if len(list) == 0 {
		return nil
	}
	n := turn % len(list)
	return slices.Concat(list[n:], list[:n])
}

// often is more than twice as often as a download is asked on.
const often = 1 << 20

func (m *memory) rank() int {
	if m.whole {
		return often + m.broke
	}
	return m.broke
}

func (s *Source) note(e *endpoint, change func(m *memory)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.known[e])
}

// failed takes note of an error of e. If it was ctx that ended, that is not its fault.
func (s *Source) failed(ctx context.Context, e *endpoint, err error) {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errSilent) {
		return
	}
	ue, ok := errors.AsType[*origin.UpstreamError](err)
	s.note(e, func(m *memory) {
		switch {
		case ok && (ue.NotThere() || ue.Denied()):
			m.no = err
		case ok && ue.Limited():
			m.limit = true
			m.broke++
		case !errors.Is(err, store.ErrRange):
			m.broke++
		}
	})
}

// watched is a body that tells when it breaks off.
type watched struct {
	io.ReadCloser
	broke func(err error)
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		w.broke(err)
	}
	return n, err
}

// body is a body that says that its endpoint is alive, and ends its attempt when it is
// closed.
type body struct {
	io.ReadCloser
	endpoint *endpoint
	release  context.CancelFunc
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.endpoint.alive()
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.release()
	return err
}
