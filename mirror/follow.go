package mirror

import (
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// follow has memory follow what other mirrors record.
func (s *state) follow(others Shared) { s.current = others.Subscribe(s.changed, s.missed) }

// trusts reports whether what memory has still holds.
func (s *state) trusts() bool { return s.current == nil || s.current() }

// holds reports whether what memory has under a key holds: while nobody says what others
// record, only what is still to be recorded here.
func (s *state) holds(key func() string) bool {
	if s.trusts() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queued[key()] > 0
}

// reading is when somebody began to read a record into memory.
type reading struct {
	state   *state
	changes uint64
}

func (s *state) reading() reading { return reading{s, s.changes.Load()} }

// meanwhile reports whether a record was deleted here since, or told to have changed: what
// was read may be what it was before, and does not stay.
func (r reading) meanwhile() bool { return r.state.changes.Load() != r.changes }

// missed forgets all but what is still to be recorded.
func (s *state) missed() {
	s.changes.Add(1)
	for _, k := range s.tags.keys() {
		s.forget(k.String(), func() { s.tags.remove(k) })
	}
	for _, k := range s.manifests.keys() {
		s.forget(k.String(), func() { s.manifests.remove(k) })
	}
	for _, k := range s.referrers.held.keys() {
		s.forget(referrersKey(k), func() { s.referrers.held.remove(k) })
	}
}

// changed forgets what others have recorded anew, or deleted.
func (s *state) changed(keys []string) {
	s.changes.Add(1)
	for _, key := range keys {
		kind, repo, name := parseStateKey(key)
		switch kind {
		case "_t":
			s.forget(key, func() { s.tags.remove(tagKey{repo, name}) })
		case "_m", "_r":
			alg, hex, _ := strings.Cut(name, "/")
			k := contentKey{repo, digest.Digest(alg + ":" + hex)}
			if kind == "_m" {
				s.forget(key, func() { s.manifests.remove(k) })
			} else {
				s.forget(key, func() { s.referrers.held.remove(k) })
			}
		}
	}
}

// forget has what memory has under key removed, unless it is newer than what is recorded, or
// was: it is still to be recorded, and will stand then.
func (s *state) forget(key string, remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queued[key] == 0 {
		remove()
	}
}

// parseStateKey takes the key of a record apart: its kind, "" for what is none, its
// repository, and what follows.
func parseStateKey(key string) (kind string, repo origin.Repo, name string) {
	rest, ok := strings.CutPrefix(key, "mirror/")
	path, rest, found := strings.Cut(rest, "/_")
	if !ok || !found {
		return "", origin.Repo{}, ""
	}
	repo, err := origin.ParseRepo(path)
	if err != nil {
		return "", origin.Repo{}, ""
	}
	kind, name, _ = strings.Cut(rest, "/")
	return "_" + kind, repo, name
}
