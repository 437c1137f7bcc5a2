package foreign

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/weir-registry/weir/origin"
)

const (
	// believed and doubted are how long it holds that a repository is there, or is not:
	// people may push to the registry past weir.
	believed, doubted = time.Minute, 5 * time.Second
	rememberedRepos   = 4096
)

// repos is what the registry lately said of repositories, whether they are there. An
// answer counts only if nothing was pushed through here since it was asked for.
type repos struct {
	mu     sync.Mutex
	pushes uint64
	said   *lru.Cache[origin.Repo, word]
}

// word is one answer.
type word struct {
	there bool
	until time.Time
}

func newRepos() *repos {
	// New fails only for a size below one.
	said, _ := lru.New[origin.Repo, word](rememberedRepos)
	return &repos{said: said}
}

// now names this moment, for the answer to a question that is asked from now on.
func (r *repos) now() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pushes
}

// lately reports whether a repository is there, if that is known.
func (r *repos) lately(repo origin.Repo) (there, ok bool) {
	w, ok := r.said.Get(repo)
	return w.there, ok && time.Now().Before(w.until)
}

// ever reports whether it was there when that was last known.
func (r *repos) ever(repo origin.Repo) (there, ok bool) {
	w, ok := r.said.Peek(repo)
	return w.there, ok
}

// answered takes note of an answer to a question that was asked at since.
func (r *repos) answered(repo origin.Repo, there bool, since uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pushes == since {
		r.say(repo, there)
	}
}

// pushed takes note that a repository is there from now on.
func (r *repos) pushed(repo origin.Repo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pushes++
	r.say(repo, true)
}

// say remembers an answer. r.mu is held.
func (r *repos) say(repo origin.Repo, there bool) {
	hold := doubted
	if there {
		hold = believed
	}
	r.said.Add(repo, word{there: there, until: time.Now().Add(hold)})
}
