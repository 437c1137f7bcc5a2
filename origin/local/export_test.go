package local

import (
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// Settled reports whether memory has followed all that it was told.
func (r *Registry) Settled() bool {
	f := r.follower
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting) == 0 && f.looking == 0 && f.doubts.Load() == 0 && f.current()
}

// Remembered gives what memory is believed to have of a tag; "": nothing.
func (r *Registry) Remembered(repo origin.Repo, tag string) digest.Digest {
	t, _ := r.tags.get(tagKey{repo, tag})
	return t.Digest
}
