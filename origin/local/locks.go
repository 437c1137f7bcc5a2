package local

import (
	"context"
	"hash/maphash"
	"sync"

	"github.com/weir-registry/weir/origin"
)

// locks is a fixed number of locks for any number of names: who changes a record
// holds the lock of its name, who fills a cache from it holds it for reading.
// Names may share a lock, so nobody takes two of one set at a time.
type locks struct {
	seed    maphash.Seed
	stripes [256]sync.RWMutex
}

func newLocks() *locks { return &locks{seed: maphash.MakeSeed()} }

// twin gives locks that are shared by the same names.
func (l *locks) twin() *locks { return &locks{seed: l.seed} }

func (l *locks) of(repo origin.Repo, name string) *sync.RWMutex {
	return &l.stripes[stripe(l.seed, repo, name)%uint64(len(l.stripes))]
}

func stripe(seed maphash.Seed, repo origin.Repo, name string) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	// Neither call fails. A repository's name has no NUL.
	_, _ = h.WriteString(repo.String())
	_ = h.WriteByte(0)
	_, _ = h.WriteString(name)
	return h.Sum64()
}

// turns are locks that nobody waits for longer than his context lasts.
type turns struct {
	seed  maphash.Seed
	taken [256]chan struct{}
}

func newTurns() *turns {
	t := &turns{seed: maphash.MakeSeed()}
	for i := range t.taken {
		t.taken[i] = make(chan struct{}, 1)
	}
	return t
}

// enter waits for the turn of a name, which lasts until leave is called.
func (t *turns) enter(ctx context.Context, repo origin.Repo, name string) (leave func(), err error) {
	taken := t.taken[stripe(t.seed, repo, name)%uint64(len(t.taken))]
	select {
	case taken <- struct{}{}:
		return func() { <-taken }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
