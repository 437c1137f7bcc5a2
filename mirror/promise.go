package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

// A client that has a manifest expects its blobs of the same place: podman and CRI-O
// look at no other then. So while the upstream cannot give content, a manifest is
// promised only if what it names is here; else the client is told why not at once, and
// goes on to its next host.

const (
	// believed is how long an image that was found whole is taken to be so: while an
	// upstream is away, a pull does not cost a look-up for each layer.
	believed = 5 * time.Second
	// lookups is how much is looked for to find an image whole. Nothing that people
	// run names as much.
	lookups = 1000
)

// promised gives the reason not to answer with a manifest that is kept, nil if there
// is none: its upstream is known to be away, and the image is not whole. While the
// upstream is there it looks at nothing.
func (m *Mirror) promised(ctx context.Context, p place, d digest.Digest) error {
	away := p.upstream.Reader.Down()
	if away == nil || m.whole(ctx, p, d) {
		return nil
	}
	return away
}

// withholds reports whether an upstream that failed to check a tag with err is known
// not to give content either. That it limits requests may be said of manifests alone.
func withholds(u *Upstream, err error) bool {
	ue, ok := errors.AsType[*origin.UpstreamError](err)
	return ok && (!ue.Limited() || u.Reader.Down() != nil)
}

// whole reports whether all is here that a pull of the manifest needs, or is on its
// way: the blobs of an image; of an index those of one image at least.
func (m *Mirror) whole(ctx context.Context, p place, d digest.Digest) bool {
	k := contentKey{p.repo, d}
	if until, ok := m.complete.Get(k); ok && time.Now().Before(until) {
		return true
	}
	s := survey{mirror: m, place: p, left: lookups}
	found := s.manifest(ctx, d)
	if found == stored {
		m.complete.Add(k, time.Now().Add(believed))
	}
	return found != missing
}

// presence is where what a manifest names is, at worst.
type presence int

const (
	missing presence = iota
	running          // in a fill, which may fail
	stored
)

// survey looks for what a manifest names.
type survey struct {
	mirror *Mirror
	place  place
	left   int // look-ups
}

func (s *survey) manifest(ctx context.Context, d digest.Digest) presence {
	if s.left--; s.left < 0 {
		return missing
	}
	man, err := s.mirror.kept(ctx, s.place, d)
	if err != nil {
		return missing
	}
	content, err := origin.ReadManifest(man.MediaType, man.Bytes)
	switch {
	case err != nil:
		return stored // it names nothing that weir could give
	case content.Index:
		return s.index(ctx, content.Manifests)
	default:
		return s.blobs(ctx, content.Blobs)
	}
}

func (s *survey) index(ctx context.Context, children []v1.Descriptor) presence {
	if len(children) == 0 {
		return stored
	}
	best := missing
	for _, c := range children {
		if best = max(best, s.manifest(ctx, c.Digest)); best == stored {
			break
		}
	}
	return best
}

func (s *survey) blobs(ctx context.Context, blobs []v1.Descriptor) presence {
	worst := stored
	for _, b := range blobs {
		if len(b.URLs) == 0 && worst != missing { // what has urls is never had from here
			worst = min(worst, s.blob(ctx, b.Digest))
		}
	}
	return worst
}

func (s *survey) blob(ctx context.Context, d digest.Digest) presence {
	if s.left--; s.left < 0 {
		return missing
	}
	if _, err := s.mirror.origin.Stat(ctx, s.place.repo, d); err == nil {
		return stored
	}
	if f, ok := s.mirror.fills.Find(s.mirror.key(s.place, d)); ok {
		f.Leave()
		return running
	}
	return missing
}
