package remote

import (
	"net/url"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	maxPlaces = 1 << 10
	// placeLife is how long an address is used without the endpoint being asked
	// again. Registries sign for ten minutes and more; what the endpoint would
	// refuse by now is given for no longer than this.
	placeLife = time.Minute
)

// places are the addresses that an endpoint redirected blobs to, for the ranges
// that are asked for next: they save each the request that is redirected, and the
// endpoint the load. An address is used for the repository and the digest that it
// was given for and for nothing else. It may be signed: it is as good as a
// credential, and not for printing.
type places struct {
	mu   sync.Mutex
	kept map[placeKey]place
}

type placeKey struct {
	repo   string // as the endpoint calls it
	digest digest.Digest
}

type place struct {
	url   *url.URL // not changed any more
	until time.Time
}

func newPlaces() *places { return &places{kept: map[placeKey]place{}} }

// find gives the address that is kept, nil if there is none.
func (p *places) find(key placeKey) *url.URL {
	p.mu.Lock()
	defer p.mu.Unlock()
	if kept, ok := p.kept[key]; ok && time.Now().Before(kept.until) {
		return kept.url
	}
	return nil
}

// keep takes the place of an address that was kept before.
func (p *places) keep(key placeKey, u *url.URL) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.kept[key]; !ok && len(p.kept) >= maxPlaces {
		// The one that lapses first goes: mostly it has lapsed already.
		var first placeKey
		for other, kept := range p.kept {
			if first == (placeKey{}) || kept.until.Before(p.kept[first].until) {
				first = other
			}
		}
		delete(p.kept, first)
	}
	p.kept[key] = place{url: u, until: time.Now().Add(placeLife)}
}

// drop forgets an address, unless there is another in its place already.
func (p *places) drop(key placeKey, u *url.URL) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept[key].url == u {
		delete(p.kept, key)
	}
}
