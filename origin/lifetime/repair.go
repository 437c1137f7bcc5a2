package lifetime

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
)

// restore fetches damaged manifests anew. One is repaired if it is in all repositories.
func (x *scrub) restore(ctx context.Context) {
	if x.opts.Restore == nil {
		return
	}
	left := map[digest.Digest]bool{}
	for _, m := range x.manifests {
		if err := x.opts.Restore(ctx, m.repo, m.digest); err != nil {
			left[m.digest] = true
			x.errs = append(x.errs, fmt.Errorf("fetch manifest %s of %s anew: %w", m.digest, m.repo, err))
		}
	}
	for _, m := range x.manifests {
		if !left[m.digest] && !slices.Contains(x.report.Repaired, m.digest) {
			x.report.Repaired = append(x.report.Repaired, m.digest)
			x.count(scrubRepaired)
		}
	}
}

// repair fetches what is quarantined anew, from where a repository mirrors it.
func (x *scrub) repair(ctx context.Context) {
	x.restore(ctx)
	if x.opts.Refetch == nil {
		return
	}
	for _, d := range x.blobs {
		for _, repo := range x.corrupt[d] {
			l, err := x.registry.Link(ctx, repo, d)
			if err != nil || !l.Mirrored {
				continue
			}
			if err := x.opts.Refetch(ctx, repo, d); err != nil {
				x.errs = append(x.errs, fmt.Errorf("fetch %s of %s anew: %w", d, repo, err))
				continue
			}
			x.report.Repaired = append(x.report.Repaired, d)
			x.count(scrubRepaired)
			break
		}
	}
}
