package foreign

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

const (
	// believed is how long it holds that something is there: others may delete it.
	believed = time.Minute
	// spoilt is how long something that was found bad is not asked for again, whatever
	// was put there since: a registry may keep what it has.
	spoilt = time.Hour
	// doubted is how long it holds that something is not there: long enough for one
	// request of a client, which looks twice.
	doubted = 2 * time.Second

	rememberedBlobs = 1 << 16
	rememberedRepos = 4096
)

// memory is what a registry lately said is there or not. An answer counts only if
// nothing was changed through here since it was asked for: a look and a deletion that
// run at the same time leave no memory.
type memory[K comparable, V any] struct {
	mu      sync.Mutex
	changes uint64
	said    *lru.Cache[K, word[V]]
}

// word is one answer.
type word[V any] struct {
	there bool
	bad   bool // nothing else is said until its time is over
	value V
	until time.Time
}

func newMemory[K comparable, V any](size int) *memory[K, V] {
	// New fails only for a size below one.
	said, _ := lru.New[K, word[V]](size)
	return &memory[K, V]{said: said}
}

// now names this moment, for the answer to a question that is asked from now on.
func (m *memory[K, V]) now() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changes
}

// get gives what is said of k. ok is false where nothing holds any more.
func (m *memory[K, V]) get(k K) (v V, there, ok bool) {
	w, ok := m.said.Get(k)
	return w.value, w.there, ok && time.Now().Before(w.until)
}

// lately reports whether k is there, if that is known.
func (m *memory[K, V]) lately(k K) (there, ok bool) {
	_, there, ok = m.get(k)
	return there, ok
}

// ever reports whether k was there when that was last known.
func (m *memory[K, V]) ever(k K) (there, ok bool) {
	w, ok := m.said.Peek(k)
	return w.there, ok
}

func (m *memory[K, V]) there(k K, v V, since uint64) {
	m.say(k, word[V]{there: true, value: v, until: time.Now().Add(believed)}, since)
}

func (m *memory[K, V]) notThere(k K, since uint64) {
	m.say(k, word[V]{until: time.Now().Add(doubted)}, since)
}

func (m *memory[K, V]) say(k K, w word[V], since uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if last, ok := m.said.Peek(k); m.changes == since && !(ok && last.bad && time.Now().Before(last.until)) {
		m.said.Add(k, w)
	}
}

// spoil has k not there for a long while.
func (m *memory[K, V]) spoil(k K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said.Add(k, word[V]{bad: true, until: time.Now().Add(spoilt)})
}

// forget drops what is known of k, and what is being asked now.
func (m *memory[K, V]) forget(k K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes++
	m.said.Remove(k)
}

// holders remembers for a digest one repository that has it, so that others need not
// be sent the same bytes.
type holders struct {
	seen *lru.Cache[digest.Digest, held]
}

type held struct {
	repo       origin.Repo
	descriptor origin.Descriptor
}

func newHolders() *holders {
	seen, _ := lru.New[digest.Digest, held](rememberedBlobs)
	return &holders{seen: seen}
}
