package fanout

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Endpoint is one place where an upstream is reached.
type Endpoint struct {
	Host   string        // host, with a port if need be: what Weir-Upstream and the metrics say
	Reader origin.Reader // an origin.Ranger and a Pinger where it can
	Limits *Limits       // what its answers say of its limits; nil: nothing
	// Fallback says that stretches of a blob are not spread over this one too: it is
	// asked for those that an endpoint before it has failed to give.
	Fallback bool
}

// Pinger is implemented by a Reader that can be asked whether it is there, at no
// cost. Any answer that is no outage will do.
type Pinger interface {
	Ping(ctx context.Context) error
}

// Options are the times of a Fanout.
type Options struct {
	// HedgeAfter is how long an endpoint may be silent before the next one is asked
	// too; the first good answer wins. 0: the next one is asked when this one failed.
	HedgeAfter time.Duration
	// Budget is how long an ask may take, to the header of a blob's answer or the end
	// of another one, all endpoints together; 0: 14s. Listings have no such bound.
	Budget time.Duration
}

// Meter is told of endpoints.
type Meter interface {
	// EndpointUp says whether an endpoint is being asked.
	EndpointUp(upstream, endpoint string, up bool)
	// RateLimitRemaining says how many requests an endpoint still lets through; -1: it is
	// not known any more.
	RateLimitRemaining(upstream, endpoint string, n int)
}

// Fanout reads from the endpoints of an upstream. Its errors are those of the
// endpoints, the worst of what they said (origin.UpstreamError), or that of the
// caller's own context. It is safe for concurrent use.
type Fanout struct {
	name      string
	endpoints []*endpoint
	opts      Options
	born      time.Time
}

var (
	_ origin.Reader = (*Fanout)(nil)
	_ origin.Ranger = (*Fanout)(nil)
)

// New makes a Fanout of the endpoints of the upstream of that name, at least one, in
// order of preference. meter may be nil.
func New(name string, endpoints []Endpoint, opts Options, meter Meter) *Fanout {
	if meter == nil {
		meter = noMeter{}
	}
	opts.Budget = cmp.Or(opts.Budget, 14*time.Second)
	f := &Fanout{name: name, opts: opts, born: time.Now()}
	for _, e := range endpoints {
		if e.Limits == nil {
			e.Limits = &Limits{}
		}
		e.Limits.report(func(n int) { meter.RateLimitRemaining(name, e.Host, n) })
		meter.EndpointUp(name, e.Host, true)
		f.endpoints = append(f.endpoints, &endpoint{
			Endpoint: e, born: f.born,
			tell: func(up bool) { meter.EndpointUp(name, e.Host, up) },
		})
	}
	return f
}

// Close ends what goes on in the background. What is asked after it is still
// answered, but an endpoint that went away does not come back.
func (f *Fanout) Close() {
	for _, e := range f.endpoints {
		e.close()
	}
}

// Resolve implements origin.Reader.
func (f *Fanout) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	return ask(ctx, f, f.all(), question[origin.Descriptor]{
		name: "manifest " + repo.String() + " " + ref.String(), bounded: true,
		do: func(ctx context.Context, e *endpoint) (origin.Descriptor, error) {
			return e.Reader.Resolve(ctx, repo, ref)
		},
	})
}

// Manifest implements origin.Reader. An endpoint whose bytes do not have their digest
// is passed over.
func (f *Fanout) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	return ask(ctx, f, f.all(), question[origin.Manifest]{
		name: "manifest " + repo.String() + " " + ref.String(), bounded: true,
		do: func(ctx context.Context, e *endpoint) (origin.Manifest, error) {
			m, err := e.Reader.Manifest(ctx, repo, ref)
			if err != nil {
				return m, err
			}
			if got := m.Digest.Algorithm().FromBytes(m.Bytes); got != m.Digest || ref.Digest() != "" && got != ref.Digest() {
				return m, &origin.UpstreamError{Endpoint: e.Host, Err: fmt.Errorf("manifest %s: %w", ref, origin.ErrDigestInvalid)}
			}
			return m, nil
		},
	})
}

// Stat implements origin.Reader.
func (f *Fanout) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	return ask(ctx, f, f.all(), question[origin.Descriptor]{
		name: "blob " + repo.String() + " " + d.String(), bounded: true,
		do: func(ctx context.Context, e *endpoint) (origin.Descriptor, error) {
			return e.Reader.Stat(ctx, repo, d)
		},
	})
}

// Blob implements origin.Reader. Its body is that of one endpoint: for one that goes
// on when an endpoint breaks off see [Fanout.Source].
func (f *Fanout) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	return f.blob(ctx, f.all(), repo, d, func(ctx context.Context, e *endpoint) (origin.Blob, error) {
		return e.Reader.Blob(ctx, repo, d, r)
	})
}

// Stretch implements origin.Ranger.
func (f *Fanout) Stretch(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	return f.Source(repo, d).Stretch(ctx, r)
}

func (f *Fanout) blob(ctx context.Context, among choice, repo origin.Repo, d digest.Digest, do func(context.Context, *endpoint) (origin.Blob, error)) (origin.Blob, error) {
	return ask(ctx, f, among, question[origin.Blob]{
		name: "blob " + repo.String() + " " + d.String(), bounded: true, do: do,
		drop: func(b origin.Blob) { _ = b.Body.Close() }, // nobody reads it
		hold: func(b *origin.Blob, e *endpoint, release context.CancelFunc) {
			b.Body = &body{ReadCloser: b.Body, endpoint: e, release: release}
		},
	})
}

// Tags implements origin.Reader.
func (f *Fanout) Tags(ctx context.Context, repo origin.Repo, p origin.Page) (origin.List[string], error) {
	return ask(ctx, f, f.all(), question[origin.List[string]]{
		name: "tags " + repo.String(),
		do: func(ctx context.Context, e *endpoint) (origin.List[string], error) {
			return e.Reader.Tags(ctx, repo, p)
		},
	})
}

// Referrers implements origin.Reader.
func (f *Fanout) Referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, p origin.Page) (origin.List[origin.Descriptor], error) {
	return ask(ctx, f, f.all(), question[origin.List[origin.Descriptor]]{
		name: "referrers " + repo.String() + " " + d.String(),
		do: func(ctx context.Context, e *endpoint) (origin.List[origin.Descriptor], error) {
			return e.Reader.Referrers(ctx, repo, d, artifactType, p)
		},
	})
}

type noMeter struct{}

func (noMeter) EndpointUp(string, string, bool)        {}
func (noMeter) RateLimitRemaining(string, string, int) {}
