package local

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

const (
	// longestPush is how many times the grace the blobs of one push are kept for it.
	longestPush = 10
	// maxGrants is how many blobs are remembered, some 100 bytes each. Those beyond have the
	// lease of their link, as all have over a restart.
	maxGrants = 100_000
)

// grants are the blobs that clients have pushed to a repository and that no manifest has
// named yet. As long as bytes come to the repository, a push goes on that may need them,
// however slow it is: their leases are renewed.
type grants struct {
	mu     sync.Mutex
	repos  map[origin.Repo]map[digest.Digest]grant
	n      int
	pruned time.Time
}

type grant struct{ begun, renewed time.Time }

func newGrants() *grants {
	return &grants{repos: map[origin.Repo]map[digest.Digest]grant{}, pruned: time.Now()}
}

// add takes note of a blob that was pushed.
func (g *grants) add(k content, grace time.Duration) {
	if grace == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if now.Sub(g.pruned) > grace {
		g.prune(now, grace)
	}
	blobs := g.repos[k.repo]
	if _, ok := blobs[k.digest]; !ok {
		if g.n == maxGrants {
			return
		}
		g.n++
	}
	if blobs == nil {
		blobs = map[digest.Digest]grant{}
		g.repos[k.repo] = blobs
	}
	blobs[k.digest] = grant{now, now}
}

// prune forgets those whose lease is over; g.mu is held.
func (g *grants) prune(now time.Time, grace time.Duration) {
	g.pruned = now
	for repo, blobs := range g.repos {
		for d, b := range blobs {
			if now.Sub(b.renewed) > grace {
				g.drop(repo, d)
			}
		}
	}
}

// drop forgets a blob; g.mu is held.
func (g *grants) drop(repo origin.Repo, d digest.Digest) {
	blobs := g.repos[repo]
	if _, ok := blobs[d]; !ok {
		return
	}
	g.n--
	if delete(blobs, d); len(blobs) == 0 {
		delete(g.repos, repo)
	}
}

// named takes note that a manifest names those blobs.
func (g *grants) named(repo origin.Repo, blobs []v1.Descriptor) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range blobs {
		g.drop(repo, b.Digest)
	}
}

// lapsing gives the blobs whose leases are to be renewed now.
func (g *grants) lapsing(repo origin.Repo, grace time.Duration) []digest.Digest {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	var list []digest.Digest
	for d, b := range g.repos[repo] {
		switch {
		case now.Sub(b.begun) > longestPush*grace, now.Sub(b.renewed) > grace:
			g.drop(repo, d)
		case now.Sub(b.renewed) >= grace/renewals:
			b.renewed = now
			g.repos[repo][d] = b
			list = append(list, d)
		}
	}
	return list
}

// grant renews the leases of what was pushed to a repository that bytes come to. One that
// cannot be renewed is as good as it was.
func (r *Registry) grant(ctx context.Context, repo origin.Repo) {
	for _, d := range r.grants.lapsing(repo, r.options().Grace) {
		if _, err := r.touch(ctx, content{repo, d}); err != nil {
			r.log.DebugContext(ctx, "lease not renewed for a push that goes on", "repository", repo.String(), "digest", d.String(), "error", err)
		}
	}
}
