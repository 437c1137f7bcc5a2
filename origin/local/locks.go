package local

import (
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
	var h maphash.Hash
	h.SetSeed(l.seed)
	// Neither call fails. A repository's name has no NUL.
	_, _ = h.WriteString(repo.String())
	_ = h.WriteByte(0)
	_, _ = h.WriteString(name)
	return &l.stripes[h.Sum64()%uint64(len(l.stripes))]
}
