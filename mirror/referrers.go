package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// referrers are all that an upstream said refers to a manifest, in the order of their
// digests. One answer serves all who ask, whichever artifact type they are after.
type referrers struct {
	Checked   time.Time       `json:"checked"`
	Endpoint  string          `json:"endpoint"`
	Manifests []v1.Descriptor `json:"manifests"`
}

// wholeList is how many referrers an upstream is asked for at once: all there are.
const wholeList = 1 << 20

// Referrers implements origin.Reader: the upstream's and those that weir has, each once.
func (m *Mirror) Referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, page origin.Page) (origin.List[origin.Descriptor], error) {
	p, err := m.locate(ctx, repo)
	if err != nil {
		return origin.List[origin.Descriptor]{}, err
	}
	if p.upstream == nil {
		return m.origin.Referrers(ctx, p.repo, d, artifactType, page)
	}
	list, err := m.referrers(ctx, p, d, artifactType, page)
	m.count(ctx, p, "referrers", list.Source, err)
	return list, clientError(p.upstream, origin.ErrNameUnknown, err)
}

func (m *Mirror) referrers(ctx context.Context, p place, d digest.Digest, artifactType string, page origin.Page) (origin.List[origin.Descriptor], error) {
	here, err := m.origin.Referrers(ctx, p.repo, d, artifactType, page)
	// An origin that is somebody else's may be away: what the upstream says stands alone.
	if err != nil && !errors.Is(err, origin.ErrUnavailable) && !origin.Unknown(err) {
		return origin.List[origin.Descriptor]{}, err
	}
	all, source, err := m.referrersUpstream(ctx, p, d)
	if err != nil {
		any, failed := m.origin.Referrers(ctx, p.repo, d, "", origin.Page{N: 1})
		if _, said := errors.AsType[*origin.UpstreamError](err); failed != nil || len(any.Items) == 0 || !said {
			return origin.List[origin.Descriptor]{}, err
		}
		source = m.stale(p.upstream, err)
	}
	// What weir has itself comes first: it has read the manifest.
	list := merge(here, all.page(artifactType, page), func(d origin.Descriptor) string { return d.Digest.String() }, page.N)
	list.Source = source
	return list, nil
}

// page gives a page of those of one artifact type, or of all if that is "".
func (r referrers) page(artifactType string, page origin.Page) origin.List[origin.Descriptor] {
	var list origin.List[origin.Descriptor]
	first, _ := slices.BinarySearchFunc(r.Manifests, page.After+"\x00", func(d v1.Descriptor, after string) int {
		return strings.Compare(d.Digest.String(), after)
	})
	for _, d := range r.Manifests[first:] {
		if artifactType != "" && d.ArtifactType != artifactType {
			continue
		}
		if list.More = len(list.Items) >= page.N; list.More {
			break
		}
		list.Items = append(list.Items, origin.Descriptor{Descriptor: d})
	}
	list.More = list.More && page.N > 0
	return list
}

// referrersUpstream gives what p's upstream says of d: what is remembered if that is
// fresh, else what it says now, else what is remembered all the same. That it knows
// nothing of the repository means that nothing refers to d there.
func (m *Mirror) referrersUpstream(ctx context.Context, p place, d digest.Digest) (referrers, origin.Source, error) {
	k, q := contentKey{p.repo, d}, question{p.repo, getReferrers, d.String()}
	known, err := m.state.referrers.get(ctx, k)
	found := err == nil
	switch age := time.Since(known.Checked); {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return referrers{}, origin.Source{}, err
	case found && age < p.upstream.ReferrersTTL:
		return known, origin.Source{Cache: origin.Hit}, nil
	case found && age >= p.upstream.Tags.StaleIfError:
		found = false
	}
	if f, ok := m.failing.Get(q); ok && f.stands(ctx, p.upstream) && (found || absent(f.err)) {
		return m.referrersInstead(p, known, found, f.err)
	}
	waiting := ctx
	if found {
		var stop context.CancelFunc
		waiting, stop = context.WithTimeoutCause(ctx, impatience, errSlow)
		defer stop()
	}
	got, err := m.refs.do(waiting, q, func(ctx context.Context) (referrers, error) {
		// An answer that came between our look and this one is ours too.
		if r, err := m.state.referrers.get(ctx, k); err == nil && time.Since(r.Checked) < p.upstream.ReferrersTTL {
			return r, nil
		}
		r, err := m.askReferrers(ctx, p, d)
		if err == nil {
			m.failing.Remove(q)
			m.state.referrers.put(k, r)
		} else {
			m.failing.Add(q, failure{err: err, until: time.Now().Add(p.upstream.Tags.NegativeTTL)})
		}
		return r, err
	})
	switch {
	case err == nil:
		return got, origin.Source{Cache: origin.Filled, Upstream: got.Endpoint}, nil
	case ctx.Err() != nil:
		return referrers{}, origin.Source{}, err
	case errors.Is(err, errSlow):
		m.failing.Add(q, slow(p.upstream))
	}
	return m.referrersInstead(p, known, found, err)
}

// referrersInstead gives what there is where p's upstream could not say.
func (m *Mirror) referrersInstead(p place, known referrers, found bool, err error) (referrers, origin.Source, error) {
	switch {
	case found && excuses(p.upstream, err):
		return known, m.stale(p.upstream, err), nil
	case absent(err):
		s := origin.Source{Cache: origin.Miss}
		if ue, ok := errors.AsType[*origin.UpstreamError](err); ok {
			s.Upstream = ue.Endpoint
		}
		return referrers{}, s, nil
	default:
		return referrers{}, origin.Source{}, err
	}
}

// askReferrers asks p's upstream for all that refers to d.
func (m *Mirror) askReferrers(ctx context.Context, p place, d digest.Digest) (referrers, error) {
	list, err := p.upstream.Reader.Referrers(ctx, p.name, d, "", origin.Page{N: wholeList})
	if err != nil {
		return referrers{}, err
	}
	r := referrers{Checked: time.Now(), Endpoint: list.Source.Upstream, Manifests: []v1.Descriptor{}}
	for _, item := range list.Items {
		r.Manifests = append(r.Manifests, item.Descriptor)
	}
	slices.SortFunc(r.Manifests, func(a, b v1.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	r.Manifests = slices.CompactFunc(r.Manifests, func(a, b v1.Descriptor) bool { return a.Digest == b.Digest })
	return r, nil
}

// referrersKey is where what refers to k is recorded.
func referrersKey(k contentKey) string {
	return "mirror/" + k.repo.String() + "/_r/" + k.digest.Algorithm().String() + "/" + k.digest.Encoded()
}

func decodeReferrers(key string, data []byte) (referrers, error) {
	var r referrers
	if err := json.Unmarshal(data, &r); err != nil {
		return referrers{}, fmt.Errorf("record %s: %w: %w", key, store.ErrDamaged, err)
	}
	return r, nil
}
