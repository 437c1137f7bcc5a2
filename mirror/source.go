package mirror

import (
	"context"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/store"
)

// source asks an upstream for stretches of a blob, for one fill.
type source struct {
	mirror *Mirror
	place  place
	digest digest.Digest
	asked  atomic.Bool
	stored atomic.Bool // the origin had it at the first request
	from   *fanout.Source
}

func newSource(m *Mirror, p place, d digest.Digest) *source {
	return &source{mirror: m, place: p, digest: d, from: p.upstream.Reader.Source(p.name, d)}
}

// ask implements fill.Source. Before the first request it looks into the origin
// again: the fill that this one would repeat may have ended between the look that
// missed and the Join. Who asks on then has given a part of it already, of what the replica
// sent that has stored it since (law 8), and gets the rest from there.
func (s *source) ask(ctx context.Context, off, n int64) (fill.Stream, error) {
	m, p := s.mirror, s.place
	if !s.asked.Swap(true) {
		if _, err := m.origin.Stat(ctx, p.repo, s.digest); err == nil {
			s.stored.Store(true)
			return fill.Stream{}, fill.ErrStored
		}
		if err := m.refusedElsewhere(ctx, p.upstream, question{p.repo, headBlob, s.digest.String()}); err != nil {
			return fill.Stream{}, err
		}
	}
	r := store.Range{Off: off, Len: max(n, 0)}
	if s.stored.Load() {
		if b, err := m.origin.Blob(ctx, p.repo, s.digest, r); err == nil {
			return fill.Stream{ReadCloser: b.Body, Offset: b.Offset, Length: b.Length, Size: b.Size}, nil
		}
	}
	b, err := s.from.Stretch(ctx, r)
	if err != nil {
		m.refuse(ctx, p.upstream, question{p.repo, headBlob, s.digest.String()}, err)
		return fill.Stream{}, err
	}
	return fill.Stream{
		ReadCloser: b.Body, Offset: b.Offset, Length: b.Length, Size: b.Size,
		Upstream: b.Source.Upstream,
	}, nil
}
