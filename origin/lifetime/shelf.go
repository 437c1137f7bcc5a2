package lifetime

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// shelf is a repository that has rules: what was listed of it, and what came of that.
type shelf struct {
	repo origin.Repo
	list string // what operators know its rules by
	keep []Rule

	tags   []string
	listed map[digest.Digest]bool            // its manifests
	spoken map[digest.Digest]bool            // manifests that notes and referrers speak of
	notes  map[string]bool                   // tags that notes speak of
	refs   map[digest.Digest][]digest.Digest // of a subject
	again  *shelf                            // as it was listed once more

	manifests map[digest.Digest]origin.Described
	suspect   map[digest.Digest]bool // by an earlier run, or this one
	tagged    map[digest.Digest]bool // tags that stay name it
	direct    map[digest.Digest]bool // doomed tags name it
	doomed    []doomed
	standing  map[digest.Digest]bool // it was to go, and is in use
	gone      map[digest.Digest]bool
}

func newShelf(repo origin.Repo, list string, keep []Rule) *shelf {
	set := func() map[digest.Digest]bool { return map[digest.Digest]bool{} }
	return &shelf{
		repo: repo, list: list, keep: keep,
		listed: set(), spoken: set(), notes: map[string]bool{}, refs: map[digest.Digest][]digest.Digest{},
		manifests: map[digest.Digest]origin.Described{},
		suspect:   set(), tagged: set(), direct: set(), standing: set(), gone: set(),
	}
}

func (s *shelf) add(it origin.Item) {
	switch it.Kind {
	case origin.KindManifest:
		s.listed[it.Digest] = true
	case origin.KindNote:
		s.spoken[it.Digest], s.notes[it.Tag] = true, true
	case origin.KindReferrer:
		s.spoken[it.Digest] = true
		s.refs[it.Subject] = append(s.refs[it.Subject], it.Digest)
	case origin.KindTag:
		s.tags = append(s.tags, it.Tag)
	}
}

// keepAll takes back that anything is to go.
func (s *shelf) keepAll() {
	for _, t := range s.doomed {
		s.tagged[t.Digest] = true
	}
	s.doomed, s.direct = nil, map[digest.Digest]bool{}
	for d := range s.suspect {
		s.standing[d] = true
	}
}

// unneeded gives the manifests that nothing needs: what doomed tags name, what an earlier
// run could not discard, what only those name that go, and those whose subject goes, too.
// Whoever names a manifest comes before it.
func (s *shelf) unneeded() []digest.Digest {
	names := map[digest.Digest]int{} // how many that stay name it
	for d, m := range s.manifests {
		if s.gone[d] {
			continue
		}
		for _, child := range m.Manifests {
			if child != d {
				names[child]++
			}
		}
	}
	var order, candidates []digest.Digest
	goes, seen := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	candidate := func(d digest.Digest) {
		if m, ok := s.manifests[d]; ok && !m.Mirrored && !seen[d] {
			seen[d] = true
			candidates = append(candidates, d)
		}
	}
	for _, set := range []map[digest.Digest]bool{s.direct, s.suspect} {
		for d := range set {
			candidate(d)
		}
	}
	stays := func(d digest.Digest) bool {
		subject := s.manifests[d].Subject
		_, there := s.manifests[subject]
		return s.gone[d] || s.tagged[d] || s.standing[d] || names[d] > 0 || there && !goes[subject] && !s.gone[subject]
	}
	for more := true; more; {
		more = false
		for i := 0; i < len(candidates); i++ {
			d := candidates[i]
			if goes[d] || stays(d) {
				continue
			}
			more, goes[d] = true, true
			order = append(order, d)
			for _, child := range s.manifests[d].Manifests {
				if child != d {
					names[child]--
					candidate(child)
				}
			}
		}
	}
	return order
}

// stays takes note that a manifest that was to go is in use.
func (s *shelf) stays(d digest.Digest) { s.standing[d] = true }

// needed reports whether a manifest that is suspect is there because something needs it.
func (s *shelf) needed(d digest.Digest) bool {
	_, there := s.manifests[d]
	return there && !s.gone[d] && !s.standing[d]
}

// ripe reports whether a manifest has been suspect since before that.
func (s *shelf) ripe(d digest.Digest, before time.Time) bool {
	m := s.manifests[d]
	return m.Suspect && m.Modified.Before(before)
}
