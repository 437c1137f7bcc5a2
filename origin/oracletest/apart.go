package oracletest

import (
	"context"
	"slices"
	"strconv"

	"github.com/weir-registry/weir/origin"
)

// Apart gives the same world in repositories of its own, below the number n: what one
// replica of a registry changes, the clients of another may not see for a moment, and the
// oracle would call that a broken word.
func (w *World) Apart(n int) *World {
	own := *w
	own.Repos = nil
	for _, r := range w.Repos {
		own.Repos = append(own.Repos, mustRepo(strconv.Itoa(n)+"/"+r.String()))
	}
	return &own
}

// Within gives a registry whose catalog has nothing of other worlds.
func Within(reg origin.Registry, world *World) origin.Registry { return within{reg, world} }

type within struct {
	origin.Registry
	world *World
}

// Repos implements origin.Catalog.
func (w within) Repos(ctx context.Context, p origin.Page) (origin.List[origin.Repo], error) {
	n := p.N
	p.N = 1000 // all others, too
	l, err := w.Registry.Repos(ctx, p)
	l.Items = slices.DeleteFunc(l.Items, func(r origin.Repo) bool { return !slices.Contains(w.world.Repos, r) })
	if l.More = len(l.Items) > n; l.More {
		l.Items = l.Items[:n]
	}
	return l, err
}
