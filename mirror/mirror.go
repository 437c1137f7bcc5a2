package mirror

import (
	"context"
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
	Meter  Meter        // nil: none
	Log    *slog.Logger // nil: none

	// Reads reports whether whoever asks may pull from a repository by its full name;
	// nil: whoever asks here may. What they may not pull is not linked into what they push.
	Reads func(ctx context.Context, full origin.Repo) bool
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
	silence  sync.Map                           // *Upstream → failure: where somebody may push, and it is away
	lists    flights[question, origin.List[string]]
	refs     flights[question, referrers]
	failing  *lru.Cache[question, failure] // lists that they lately could not give
	ahead    *ahead
}

var _ origin.Registry = (*Mirror)(nil)

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
	m := &Mirror{origin: o, keeper: o, table: t, fills: fills, state: newState(records, opts.Log), opts: opts}
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
	assumed  bool        // the name has no upstream, and the default one answers for it until somebody pushes there
}

// locate says where a name leads. A name that begins with an upstream's leads
// there; any other is local if it was ever pushed to, else the default upstream's.
func (m *Mirror) locate(ctx context.Context, repo origin.Repo) (place, error) {
	if u, name, ok := m.table.mirrored(repo); ok {
		full, err := u.repo(name)
		if err == nil && !u.allows(full.Rest()) {
			err = errUnlisted
		}
		return place{repo: full, upstream: u, name: full.Rest()}, err
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
	return place{repo: full, upstream: m.table.standard, name: full.Rest(), assumed: !m.reserved(repo)}, nil
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

// count counts one request of a client, and lets an answer that is an error say that
// nothing was kept.
func (m *Mirror) count(ctx context.Context, p place, kind string, s origin.Source, err error) {
	result := string(s.Cache)
	if err != nil {
		origin.RequestOf(ctx).Cache = origin.Miss
	}
	switch {
	case err != nil && origin.Unknown(err):
		result = string(origin.Miss)
	case err != nil:
		result = "error"
	}
	m.opts.Meter.MirrorRequest(p.upstream.Name, kind, result)
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
func (m *Mirror) refuse(u *Upstream, q question, err error) {
	if absent(err) && u.Tags.NegativeTTL > 0 {
		m.absent.Add(q, refusal{err: err, until: time.Now().Add(u.Tags.NegativeTTL)})
	}
}

type noMeter struct{}

func (noMeter) MirrorRequest(string, string, string) {}
func (noMeter) ServedBytes(string, int64)            {}
