package oracletest

import (
	"slices"

	"github.com/opencontainers/go-digest"
)

// thing is something that may be there or not, in a repository.
type thing struct {
	what what
	repo string
	name string // its tag or digest
}

type what string

const (
	blob       what = "blob"
	manifest   what = "manifest"
	referrer   what = "referrer" // that a manifest is listed below its subject
	tag        what = "tag"
	repository what = "repository"
)

// A value is what a thing is: the digest that a tag names; there for others; absent.
const (
	absent = ""
	there  = "there"
)

// write is one operation's effect on a thing.
type write struct {
	value      string
	only       string // the thing changes only if this is its value; "" = whatever it is
	begin, end int
	acked      bool
}

// history is all that was done to each thing, and what digests were about.
type history struct {
	writes   map[thing][]write
	subjects map[digest.Digest]digest.Digest
	collects bool
	needs    map[thing]map[thing]bool // by blob: the manifests that need it
}

// history is what the ledger says. Operations that were refused changed nothing.
func (l *Ledger) history() history {
	h := history{writes: map[thing][]write{}, subjects: map[digest.Digest]digest.Digest{}, collects: l.Collects, needs: map[thing]map[thing]bool{}}
	records := l.Snapshot().records()
	named := map[thing][]string{} // the tags that a manifest was pushed with, ever
	for _, r := range records {
		if r.outcome == Refused || r.op.Kind != PushManifest {
			continue
		}
		m := thing{manifest, r.op.Repo, r.op.Digest.String()}
		for _, t := range r.op.Tags {
			if !slices.Contains(named[m], t) {
				named[m] = append(named[m], t)
			}
		}
	}
	for _, r := range records {
		if r.outcome == Refused {
			continue
		}
		op, name := r.op, r.op.Digest.String()
		add := func(t thing, value, only string) {
			h.writes[t] = append(h.writes[t], write{value, only, r.begin, r.end, r.outcome == Acked})
		}
		switch op.Kind {
		case PushBlob, Mount:
			add(thing{repository, op.Repo, ""}, there, "")
			add(thing{blob, op.Repo, name}, there, "")
		case DeleteBlob:
			add(thing{blob, op.Repo, name}, absent, "")
		case PushManifest:
			add(thing{repository, op.Repo, ""}, there, "")
			m := thing{manifest, op.Repo, name}
			add(m, there, "")
			for _, d := range op.Needs {
				b := thing{blob, op.Repo, d.String()}
				if h.needs[b] == nil {
					h.needs[b] = map[thing]bool{}
				}
				h.needs[b][m] = true
			}
			if op.Subject != "" {
				add(thing{referrer, op.Repo, name}, there, "")
				h.subjects[op.Digest] = op.Subject
			}
			for _, t := range op.Tags {
				add(thing{tag, op.Repo, t}, name, "")
			}
		case DeleteTag:
			add(thing{tag, op.Repo, op.Tags[0]}, absent, "")
		case DeleteManifest:
			m := thing{manifest, op.Repo, name}
			add(m, absent, "")
			add(thing{referrer, op.Repo, name}, absent, "")
			for _, t := range named[m] {
				add(thing{tag, op.Repo, t}, absent, name)
			}
		}
	}
	return h
}

// possible gives the values that a thing may have had for a reader who began to read
// at from and ended at to.
func (h history) possible(t thing, from, to int) []string {
	writes := append([]write{{value: absent, begin: -1, end: -1, acked: true}}, h.writes[t]...)
	var values []string
	for _, w := range writes {
		if w.begin < to && w.effective(writes) && !w.overwritten(writes, from) && !slices.Contains(values, w.value) {
			values = append(values, w.value)
		}
	}
	if h.collects && !slices.Contains(values, absent) && h.collectable(t, from, to) {
		values = append(values, absent)
	}
	return values
}

// collectable reports whether nothing that is certainly there needs a thing.
func (h history) collectable(t thing, from, to int) bool {
	switch t.what {
	case blob:
		for m := range h.needs[t] {
			if !h.may(m, absent, from, to) {
				return false
			}
		}
		return true
	case manifest, referrer:
		subject, ok := h.subjects[digest.Digest(t.name)]
		return ok && slices.ContainsFunc(h.writes[thing{manifest, t.repo, subject.String()}], func(w write) bool { return w.value == absent })
	default:
		return false
	}
}

// may reports whether a thing may have had the value for that reader.
func (h history) may(t thing, value string, from, to int) bool {
	return slices.Contains(h.possible(t, from, to), value)
}

// overwritten reports whether another write has certainly come after w, and was over
// at the time.
func (w write) overwritten(writes []write, at int) bool {
	return slices.ContainsFunc(writes, func(later write) bool {
		return later.acked && later.begin > w.end && later.end < at && (later.only == "" || later.only == w.value)
	})
}

// effective reports whether w may have changed something: it is not one that wants
// another value than was there.
func (w write) effective(writes []write) bool {
	return w.only == "" || slices.ContainsFunc(writes, func(earlier write) bool {
		return earlier.value == w.only && earlier.begin < w.end && !earlier.overwritten(writes, w.begin)
	})
}
