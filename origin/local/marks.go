package local

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// mark says how content came into a repository.
type mark bool

const (
	pushed   mark = false // by a client: it stays until a client or a rule deletes it
	mirrored mark = true  // through a mirror, which may fetch it again
)

// link is what memory has of one.
type link struct {
	mark  mark
	lease lease
}

// linkRecord is what the record of a link holds.
type linkRecord struct {
	Mirrored mark `json:"mirrored,omitempty"`
}

func encodeLink(m mark) []byte {
	data, _ := json.Marshal(linkRecord{m}) // a bool always can be
	return data
}

func decodeLink(data []byte) (mark, error) {
	var l linkRecord
	if err := json.Unmarshal(data, &l); err != nil {
		return pushed, fmt.Errorf("link: %w", errDamaged)
	}
	return l.Mirrored, nil
}

// linkers says which repositories may link a blob: all that do, and perhaps some that
// do not. Who makes a link tells it before; whoever wants to know for certain reads the
// records. It knows a blob by a hash of its digest: two that share one share their
// repositories, which costs some reading.
type linkers struct {
	seed maphash.Seed

	mu    sync.Mutex
	ids   map[origin.Repo]uint32
	repos []origin.Repo
	first map[uint64]uint32 // by blob: the index of its first linker
	chain []linker          // the one at 0 is none
	free  uint32            // first of those not in use
	whole bool              // everything that the store has is here
	doubt int               // how often that ceased to be so
}

type linker struct{ repo, next uint32 }

func newLinkers() *linkers {
	return &linkers{
		seed: maphash.MakeSeed(), ids: map[origin.Repo]uint32{},
		first: map[uint64]uint32{}, chain: make([]linker, 1),
	}
}

func (l *linkers) hash(d digest.Digest) uint64 { return maphash.String(l.seed, string(d)) }

// add takes note that the repository links the blob, or is about to.
func (l *linkers) add(k content) {
	h := l.hash(k.digest)
	l.mu.Lock()
	defer l.mu.Unlock()
	id, ok := l.ids[k.repo]
	if !ok {
		id = uint32(len(l.repos))
		l.ids[k.repo] = id
		l.repos = append(l.repos, k.repo)
	}
	for i := l.first[h]; i != 0; i = l.chain[i].next {
		if l.chain[i].repo == id {
			return
		}
	}
	i := l.free
	if i == 0 {
		i = uint32(len(l.chain))
		l.chain = append(l.chain, linker{})
	} else {
		l.free = l.chain[i].next
	}
	l.chain[i] = linker{repo: id, next: l.first[h]}
	l.first[h] = i
}

// remove takes note that the repository does not link the blob any more.
func (l *linkers) remove(k content) {
	h := l.hash(k.digest)
	l.mu.Lock()
	defer l.mu.Unlock()
	id, ok := l.ids[k.repo]
	if !ok {
		return
	}
	for last, i := uint32(0), l.first[h]; i != 0; last, i = i, l.chain[i].next {
		if l.chain[i].repo != id {
			continue
		}
		next := l.chain[i].next
		switch {
		case last != 0:
			l.chain[last].next = next
		case next != 0:
			l.first[h] = next
		default:
			delete(l.first, h)
		}
		l.chain[i] = linker{next: l.free}
		l.free = i
		return
	}
}

// of gives the repositories that may link the blob. known is false while not all are
// here.
func (l *linkers) of(d digest.Digest) (repos []origin.Repo, known bool) {
	h := l.hash(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := l.first[h]; i != 0; i = l.chain[i].next {
		repos = append(repos, l.repos[l.chain[i].repo])
	}
	return repos, l.whole
}

// doubts is how often it became uncertain whether all links are here.
func (l *linkers) doubts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doubt
}

// complete takes note that all links have been told that the store had when there were so
// many doubts.
func (l *linkers) complete(doubts int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.whole = l.doubt == doubts
}

// incomplete takes note that there may be links that nobody has told.
func (l *linkers) incomplete() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubt++
	l.whole = false
}
