package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// impatience is how long a client waits for the check of a tag that could be
// served stale; the check goes on behind its back.
const impatience = 1500 * time.Millisecond

// hanging is how long nobody else waits for what one client was too impatient for: an
// ask ends before (fanout.Options.Budget), and says then how long its failure holds.
const hanging = 30 * time.Second

// slow is the failure of what still runs and was waited for in vain.
func slow(u *Upstream) failure {
	return failure{err: errSlow, until: time.Now().Add(max(hanging, u.Tags.NegativeTTL))}
}

// resolveTag says what a tag stands for: what is remembered if that is fresh, else
// what the upstream says, else, if it cannot say, what is remembered all the same.
func (m *Mirror) resolveTag(ctx context.Context, p place, ref origin.Ref) (tag, origin.Source, error) {
	k, name := tagKey{p.repo, ref.Tag()}, ref.Tag()
	known, err := m.state.tag(ctx, k)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if err := m.spared(ctx, p, ref); err != nil {
			return tag{}, origin.Source{}, err
		}
		t, err := m.check(ctx, p, name)
		return t, origin.Source{Cache: origin.Miss, Upstream: t.Endpoint}, err
	case err != nil:
		return tag{}, origin.Source{}, err
	case fresh(ctx, p.upstream, k, known):
		return known, origin.Source{Cache: origin.Hit}, m.promised(ctx, p, known.Digest)
	}

	servable := time.Since(known.Checked) < p.upstream.Tags.StaleIfError
	if failed, ok := m.checks.Get(k); ok && servable && failed.stands(ctx, p.upstream) && m.mayBeStale(ctx, p, known, failed.err) {
		return known, m.stale(p.upstream, failed.err), nil
	}
	waiting := ctx
	if servable {
		var stop context.CancelFunc
		waiting, stop = context.WithTimeoutCause(ctx, impatience, errSlow)
		defer stop()
	}
	t, err := m.check(waiting, p, name)
	if errors.Is(err, errSlow) && !m.whole(ctx, p, known.Digest) {
		t, err = m.check(ctx, p, name) // there is nothing better to be served meanwhile
	}
	switch {
	case err == nil:
		return t, origin.Source{Cache: origin.Revalidated, Upstream: t.Endpoint}, nil
	case ctx.Err() == nil && servable && m.mayBeStale(ctx, p, known, err):
		if errors.Is(err, errSlow) {
			// The check goes on. Until it ends nobody else waits for it.
			m.checks.Add(k, slow(p.upstream))
			if now, err := m.state.tag(ctx, k); err == nil && now.Checked.After(known.Checked) {
				m.checks.Remove(k) // it has ended since we left
			}
		}
		return known, m.stale(p.upstream, err), nil
	default:
		return tag{}, origin.Source{}, err
	}
}

// errSlow is the cause of a wait that ended because something stale can be served.
var errSlow error = &origin.UpstreamError{Timeout: true, Err: errors.New("no answer yet")}

// ttl is how long what u said of a tag holds: longer the fewer requests are left.
func (u *Upstream) ttl() time.Duration { return u.Tags.TTL * time.Duration(u.Reader.Thrift()) }

// mayBeStale reports whether what is remembered of a tag is served in spite of err,
// with which its check failed.
func (m *Mirror) mayBeStale(ctx context.Context, p place, known tag, err error) bool {
	return excuses(p.upstream, err) && (!withholds(p.upstream, err) || m.whole(ctx, p, known.Digest))
}

// excuses reports whether err is one in spite of which something is served stale.
func excuses(u *Upstream, err error) bool {
	if absent(err) {
		return u.Tags.StaleIfGone
	}
	_, ok := errors.AsType[*origin.UpstreamError](err)
	return ok
}

func (m *Mirror) stale(u *Upstream, err error) origin.Source {
	s := origin.Source{Cache: origin.Stale, Stale: reason(u, err)}
	if ue, ok := errors.AsType[*origin.UpstreamError](err); ok {
		s.Upstream = ue.Endpoint
	}
	return s
}

// check asks the upstream what a tag stands for (HEAD), once for all who want to
// know, and remembers it.
func (m *Mirror) check(ctx context.Context, p place, name string) (tag, error) {
	q := question{p.repo, headTag, name}
	k := tagKey{p.repo, name}
	if err := m.refusedTag(ctx, p.upstream, q); err != nil {
		return tag{}, err
	}
	man, err := m.answers.do(ctx, q, func(ctx context.Context) (origin.Manifest, error) {
		// A check that ended between our look and this one has answered for us.
		if t, err := m.state.tag(ctx, k); err == nil && fresh(ctx, p.upstream, k, t) {
			return origin.Manifest{Descriptor: t.descriptor(origin.Source{Upstream: t.Endpoint})}, nil
		}
		ref, err := origin.ParseTag(name)
		if err != nil {
			return origin.Manifest{}, err
		}
		t, told, done := m.shared.ask(ctx, p.upstream, k)
		defer done()
		if told {
			m.heard(k, t)
			return origin.Manifest{Descriptor: t.descriptor(origin.Source{Upstream: t.Endpoint})}, nil
		}
		if err := m.refusedElsewhere(ctx, p.upstream, q); err != nil {
			return origin.Manifest{}, err
		}
		d, err := p.upstream.Reader.Resolve(ctx, p.name, ref)
		if err != nil {
			m.refuse(ctx, p.upstream, q, err)
			m.checks.Add(k, failure{err: err, until: time.Now().Add(p.upstream.Tags.NegativeTTL)})
			return origin.Manifest{}, err
		}
		m.learnt(ctx, p, name, d)
		return origin.Manifest{Descriptor: d}, nil
	})
	if err != nil {
		return tag{}, err
	}
	return tag{MediaType: man.MediaType, Digest: man.Digest, Size: man.Size, Endpoint: man.Source.Upstream}, nil
}

// learnt remembers what an upstream said of a tag just now.
func (m *Mirror) learnt(ctx context.Context, p place, name string, d origin.Descriptor) {
	k := tagKey{p.repo, name}
	t := tag{
		MediaType: d.MediaType, Digest: d.Digest, Size: d.Size,
		Checked: time.Now(), Endpoint: d.Source.Upstream,
	}
	m.state.putTag(k, t)
	// After it: who has lost patience in this moment says so, and then looks for the tag.
	m.checks.Remove(k)
	m.absent.Remove(question{p.repo, getTag, name})
	m.absent.Remove(question{p.repo, headTag, name})
	m.shared.learnt(ctx, p.upstream, k, t)
}

// heard takes into memory what another mirror was told of a tag, and records.
func (m *Mirror) heard(k tagKey, t tag) {
	if m.state.trusts() {
		m.state.tags.add(k, t, t.size(k))
	}
	m.checks.Remove(k)
}
