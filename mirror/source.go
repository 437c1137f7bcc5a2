package mirror

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// source asks the endpoints of an upstream for stretches of a blob, for one fill.
type source struct {
	mirror *Mirror
	place  place
	digest digest.Digest
	asked  atomic.Bool
	first  atomic.Int64 // index of the endpoint to ask first
}

func newSource(m *Mirror, p place, d digest.Digest) *source {
	return &source{mirror: m, place: p, digest: d}
}

// ask implements fill.Source. Before the first request it looks into the origin
// again: the fill that this one would repeat may have ended between the look that
// missed and the Join.
func (s *source) ask(ctx context.Context, off, n int64) (fill.Stream, error) {
	m, p := s.mirror, s.place
	if !s.asked.Swap(true) {
		if _, err := m.origin.Stat(ctx, p.repo, s.digest); err == nil {
			return fill.Stream{}, fill.ErrStored
		}
	}
	r := store.Range{Off: off, Len: max(n, 0)}
	var by int // the endpoint that answered
	b, err := askFrom(ctx, p.upstream, int(s.first.Load()), func(ctx context.Context, i int, e Endpoint) (origin.Blob, error) {
		by = i
		if ranger, ok := e.Reader.(origin.Ranger); ok {
			return ranger.Stretch(ctx, p.name, s.digest, r)
		}
		return e.Reader.Blob(ctx, p.name, s.digest, r)
	})
	if err != nil {
		m.refuse(p.upstream, question{p.repo, headBlob, s.digest.String()}, err)
		return fill.Stream{}, err
	}
	return fill.Stream{
		ReadCloser: &watched{ReadCloser: b.Body, broke: func() { s.avoid(ctx, by) }},
		Offset:     b.Offset, Length: b.Length, Size: b.Size,
		Upstream: b.Source.Upstream,
	}, nil
}

// avoid has the endpoint behind the i-th asked first from now on: that one's answer
// broke off. If it was ctx that ended, that is not its fault.
func (s *source) avoid(ctx context.Context, i int) {
	if ctx.Err() == nil {
		s.first.CompareAndSwap(int64(i), int64((i+1)%len(s.place.upstream.Endpoints)))
	}
}

// watched is a body that tells when it breaks off.
type watched struct {
	io.ReadCloser
	broke func()
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		w.broke()
	}
	return n, err
}
