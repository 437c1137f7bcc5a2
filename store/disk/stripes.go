package disk

import (
	"hash/maphash"
	"slices"
	"sync"
)

// stripes are locks, one of which belongs to each name.
type stripes struct {
	once  sync.Once
	seed  maphash.Seed
	locks [256]sync.Mutex
}

func (s *stripes) of(name string) *sync.Mutex { return &s.locks[s.index(name)] }

// all gives the locks of names, each once and in the order in which all take them.
func (s *stripes) all(names []string) []*sync.Mutex {
	indexes := make([]uint64, len(names))
	for i, name := range names {
		indexes[i] = s.index(name)
	}
	slices.Sort(indexes)
	indexes = slices.Compact(indexes)
	locks := make([]*sync.Mutex, len(indexes))
	for i, n := range indexes {
		locks[i] = &s.locks[n]
	}
	return locks
}

func (s *stripes) index(name string) uint64 {
	s.once.Do(func() { s.seed = maphash.MakeSeed() })
	return maphash.String(s.seed, name) % uint64(len(s.locks))
}
