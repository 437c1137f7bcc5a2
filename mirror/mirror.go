package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Options are the circumstances of a Mirror.
type Options struct {
	Delete bool         // whether clients may delete: local content, and from the cache
	Claims bool         // whether a push may make a name below library local: somebody before has decided on it
	Cache  *evict.Cache // told of what is stored and used; nil: none
	Shared Shared       // with other mirrors over the same origin and records; nil: there are none
	Meter  Meter        // nil: none
	Log    *slog.Logger // nil: none

	// Redirect reports whether clients may be sent to the origin's store for blobs of a
	// repository, by its full name; upstream is "" for a local one. nil: never.
	Redirect func(full origin.Repo, upstream string) bool
	// RedirectTTL is how long the addresses are good that the origin gives for that: so
	// long a blob counts as read.
	RedirectTTL time.Duration

	// Reads reports whether whoever asks may pull from a repository by its full name;
	// nil: whoever asks here may. What they may not pull is not linked into what they push.
	Reads func(ctx context.Context, full origin.Repo) bool
	// Pushes reports whether whoever asks may push to a repository, by the name that a
	// push would go to: a manifest, or, where that is the zero Ref, a blob. nil: whoever
	// asks here may. Who may not is told of an outage what a pull is told of it.
	Pushes func(ctx context.Context, repo origin.Repo, manifest origin.Ref) bool
}

// Meter is told what a Mirror does.
type Meter interface {
	// MirrorRequest counts one request of a client: kind is manifest, blob, tags or
	// referrers, result an origin.Cache or "error".
	MirrorRequest(upstream, kind, result string)
	// ServedBytes counts bytes of mirrored blobs given to clients.
	ServedBytes(upstream string, n int64)
}

// Mirror is an origin.Registry that reads through to upstreams. What it does not
// implement, it refuses.
type Mirror struct {
	origin.None
	origin origin.Registry
	keeper origin.Writer // of the origin, for what is mirrored
	table  *Table
	fills  *fill.Group
	state  *state
	opts   Options

	answers  flights[question, origin.Manifest] // what upstreams are being asked
	absent   *lru.Cache[question, refusal]      // what they lately said no to
	checks   *lru.Cache[tagKey, failure]        // tags that they lately could not say
	complete *lru.Cache[contentKey, time.Time]  // manifests whose image is whole, and how long that is believed
	shared   *sharing                           // nil: with nobody
	silence  sync.Map                           // *Upstream → failure: where somebody may push, and it is away
	lists    flights[question, origin.List[string]]
	refs     flights[question, referrers]
	failing  *lru.Cache[question, failure] // lists that they lately could not give
	ahead    *ahead
}

var (
	_ origin.Registry   = (*Mirror)(nil)
	_ origin.Redirector = (*Mirror)(nil)
)

// question is what an upstream may be asked, where the same answer serves all.
type question struct {
	repo origin.Repo
	what kind
	name string // tag or digest
}

type kind string

// The kinds of questions.
const (
	headTag      kind = "HEAD tag"
	getTag       kind = "GET tag"
	headManifest kind = "HEAD manifest"
	getManifest  kind = "GET manifest"
	headBlob     kind = "HEAD blob"
	listTags     kind = "LIST tags"
	getReferrers kind = "GET referrers"
)

// refusal is an upstream's "not there", and failure a check of a tag that failed;
// neither is asked for again before until.
type refusal struct {
	err   error
	until time.Time
}

type failure = refusal

// remembered is how many refusals and failures are remembered.
const remembered = 4096

// New makes a Mirror that keeps blobs in o, through fills, and its memory in
// records. o also takes what is pushed and has what was; the names of mirrored
// repositories there are those of t.
func New(o origin.Registry, records store.Records, fills *fill.Group, t *Table, opts Options) *Mirror {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Meter == nil {
		opts.Meter = noMeter{}
	}
	m := newMirror(o, fills, newState(records, opts.Log), t, opts)
	if opts.Shared != nil {
		m.shared = &sharing{opts.Shared}
		m.state.follow(opts.Shared)
	}
	return m
}

// newMirror makes a Mirror with that memory, whose options are complete.
func newMirror(o origin.Registry, fills *fill.Group, s *state, t *Table, opts Options) *Mirror {
	m := &Mirror{origin: o, keeper: o, table: t, fills: fills, state: s, opts: opts}
	if k, ok := o.(origin.Keeper); ok {
		m.keeper = k.Mirrored()
	}
	// New fails only for a size below one.
	m.absent, _ = lru.New[question, refusal](remembered)
	m.checks, _ = lru.New[tagKey, failure](remembered)
	m.complete, _ = lru.New[contentKey, time.Time](remembered)
	m.failing, _ = lru.New[question, failure](remembered)
	m.ahead = newAhead(m)
	return m
}

// With gives a Mirror by another table and other options that has the memory and the
// fills of m: what is fetched goes on, and what was is there. What upstreams refused m,
// or are being asked by it, the other does not know: they may be others, or say something
// else to whom they know by now. Shared, Meter and Log stay those of m. Both serve until
// one is closed, or retired.
func (m *Mirror) With(o origin.Registry, t *Table, opts Options) *Mirror {
	opts.Shared, opts.Meter, opts.Log = m.opts.Shared, m.opts.Meter, m.opts.Log
	next := newMirror(o, m.fills, m.state, t, opts)
	next.shared = m.shared
	return next
}

// Retire is the end of a Mirror whose memory and fills another one has (see With): nobody
// asks it any more, and what it does of itself ends, or is cut when ctx ends.
func (m *Mirror) Retire(ctx context.Context) {
	m.ahead.finish(ctx)
	m.answers.close(ctx)
	m.lists.close(ctx)
	m.refs.close(ctx)
}

// Close waits for what runs, and for what is still to be recorded. When ctx ends,
// fills and questions are cut. What is asked after it is refused.
func (m *Mirror) Close(ctx context.Context) error {
	m.ahead.close()
	err := m.fills.Close(ctx)
	m.answers.close(ctx)
	m.lists.close(ctx)
	m.refs.close(ctx)
	m.state.close()
	return err
}

// place is where a name leads.
type place struct {
	repo     origin.Repo // its full name
	upstream *Upstream   // nil: local
	name     origin.Repo // what it is called at the upstream
	target   origin.Repo // where a push of that name goes; zero: it is refused
}

// locate says where a name leads. A name that begins with an upstream's leads
// there; any other is local if it was ever pushed to, else the default upstream's.
func (m *Mirror) locate(ctx context.Context, repo origin.Repo) (place, error) {
	if u, name, ok := m.table.mirrored(repo); ok {
		full, err := u.repo(name)
		if err == nil && !u.allows(full.Rest()) {
			err = errUnlisted
		}
		p := place{repo: full, upstream: u, name: full.Rest()}
		if u.Writable {
			p.target = full
		}
		return p, err
	}
	if m.table.standard == nil {
		return place{repo: repo}, nil
	}
	full, long := m.table.standard.repo(repo)
	local, err := m.local(ctx, repo)
	if err != nil && long == nil && ctx.Err() == nil && m.state.knows(ctx, full) {
		local, err = false, nil // the origin cannot say; when it could, it was not
	}
	if err != nil || local || long != nil { // too long to be mirrored, so it is not
		return place{repo: repo}, err
	}
	if !m.table.standard.allows(full.Rest()) {
		return place{}, errUnlisted
	}
	p := place{repo: full, upstream: m.table.standard, name: full.Rest()}
	if !m.reserved(repo) {
		p.target = repo
	}
	return p, nil
}

// local reports whether the origin has a repository of that name.
func (m *Mirror) local(ctx context.Context, repo origin.Repo) (bool, error) {
	_, err := m.origin.Tags(ctx, repo, origin.Page{})
	switch {
	case err == nil:
		return true, nil
	case origin.Unknown(err):
		return false, nil
	default:
		return false, fmt.Errorf("look up repository %s: %w", repo, err)
	}
}

// count counts one request of a client, and lets an answer that is an error say so by the
// same word.
func (m *Mirror) count(ctx context.Context, p place, kind string, s origin.Source, err error) {
	result := s.Cache
	if err != nil {
		result = origin.Failed
		if origin.Unknown(err) {
			result = origin.Miss
		}
		origin.RequestOf(ctx).Cache = result
	}
	m.opts.Meter.MirrorRequest(p.upstream.Name, kind, string(result))
}

// refused gives the refusal that still holds for q.
func (m *Mirror) refused(q question) error {
	r, ok := m.absent.Get(q)
	if !ok || !time.Now().Before(r.until) {
		return nil
	}
	return r.err
}

// refuse remembers an upstream's "not there" for a while; other errors it does not.
func (m *Mirror) refuse(ctx context.Context, u *Upstream, q question, err error) {
	if absent(err) && u.Tags.NegativeTTL > 0 {
		m.absent.Add(q, refusal{err: err, until: time.Now().Add(u.Tags.NegativeTTL)})
		if ue, ok := errors.AsType[*origin.UpstreamError](err); ok {
			m.shared.refuse(ctx, q, ue, u.Tags.NegativeTTL)
		}
	}
}

// refusedElsewhere gives the refusal of q that another mirror was given and that still
// holds. It is asked where the upstream would be asked else.
func (m *Mirror) refusedElsewhere(ctx context.Context, u *Upstream, q question) error {
	r, ok := m.shared.refused(ctx, u, q)
	if !ok {
		return nil
	}
	m.absent.Add(q, r)
	return r.err
}

type noMeter struct{}

func (noMeter) MirrorRequest(string, string, string) {}
func (noMeter) ServedBytes(string, int64)            {}
