package mirror

import (
	"context"
	"time"

	"github.com/weir-registry/weir/origin"
)

// refreshEvery is how old an upstream's answer must be before a client that asks for a
// fresh one (origin.Request.Refresh) has it asked again: whoever repeats such requests
// gets no more out of an upstream than one question in that time.
const refreshEvery = time.Second

// fresh reports whether what is remembered of a tag needs no check for whom ctx is.
func fresh(ctx context.Context, u *Upstream, k tagKey, t tag) bool {
	switch age := time.Since(t.Checked); {
	case u.Tags.immutable(k.tag):
		return true
	case origin.RequestOf(ctx).Refresh:
		return age < min(refreshEvery, u.Tags.TTL)
	default:
		return age < u.Tags.TTL || age < u.ttl()
	}
}

// stands reports whether what an upstream refused or failed to say is not asked for
// again yet by whom ctx is.
func (r refusal) stands(ctx context.Context, u *Upstream) bool {
	left := time.Until(r.until)
	if origin.RequestOf(ctx).Refresh {
		return left > u.Tags.NegativeTTL-refreshEvery && left > 0
	}
	return left > 0
}

// refusedTag is refused for a question about a tag.
func (m *Mirror) refusedTag(ctx context.Context, u *Upstream, q question) error {
	if r, ok := m.absent.Get(q); ok && r.stands(ctx, u) {
		return r.err
	}
	return nil
}
