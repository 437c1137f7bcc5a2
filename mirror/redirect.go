package mirror

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// BlobURL implements origin.Redirector, for what the origin has: what is on its way is
// followed here. The blob stays for as long as the address is good.
func (m *Mirror) BlobURL(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Redirect, bool, error) {
	from, ok := m.origin.(origin.Redirector)
	if !ok || m.opts.Redirect == nil {
		return origin.Redirect{}, false, nil
	}
	p, err := m.locate(ctx, repo)
	if err != nil {
		return origin.Redirect{}, false, nil // Blob says why
	}
	if p.upstream == nil {
		if !m.opts.Redirect(p.repo, "") {
			return origin.Redirect{}, false, nil
		}
		return from.BlobURL(ctx, p.repo, d)
	}
	if !m.opts.Redirect(p.repo, p.upstream.Name) {
		return origin.Redirect{}, false, nil
	}
	done := m.opts.Cache.Reading(p.repo, d)
	if m.opts.Cache.Going(d) {
		done()
		return origin.Redirect{}, false, nil // an address would be good no longer than the blob is
	}
	to, ok, err := from.BlobURL(ctx, p.repo, d)
	if !ok || err != nil {
		done()
		return origin.Redirect{}, false, err
	}
	time.AfterFunc(m.opts.RedirectTTL, done)
	to.Source.Cache = origin.Hit
	m.count(ctx, p, "blob", to.Source, nil)
	return to, true, nil
}
