package local_test

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
)

// state reads what there is.
func (r *race) state() state {
	r.t.Helper()
	var s state
	var tags []string
	path := func(d digest.Digest) string { return strings.Replace(d.String(), ":", "/", 1) }
	for e, err := range r.records.List(r.t.Context(), "r/a", "") {
		if err != nil {
			r.t.Fatal(err)
		}
		switch {
		case e.Key == "r/a/_m/"+path(r.tree.Digest()):
			s.there = true
		case e.Key == "r/a/_r/"+path(r.subject)+"/"+path(r.tree.Digest()):
			s.listed = true
		case strings.HasPrefix(e.Key, "r/a/_t/"):
			tags = append(tags, strings.TrimPrefix(e.Key, "r/a/_t/"))
		}
	}
	// An entry whose manifest is gone is none: whoever opens the registry does not list it.
	s.listed = s.listed && s.there
	sort.Strings(tags)
	s.tags = strings.Join(tags, " ")
	return s
}

// do is what a deed makes of a state, and whether it succeeds.
func (d deed) do(s state) (state, bool) {
	immutable := func(tag string) bool { return tag[0] == 'v' }
	tags := strings.Fields(s.tags)
	switch {
	case d.delete && (!s.there || slices.ContainsFunc(tags, immutable)):
		return s, false
	case d.retire && s.tags != "":
		return s, false
	case d.delete, d.retire:
		return state{}, true
	}
	for tag := range strings.FieldsSeq(d.tags) {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	sort.Strings(tags)
	return state{true, true, strings.Join(tags, " ")}, true
}

// explained reports whether some order of the deeds, one after the other, has the same
// results and the same end; in time says that one that had ended before another began comes before that. A
// push may come in part, with some of its tags or none, and be deleted and come again, since
// others see it before it is done (decision 10).
func explained(from, to state, left []*stepped, inTime bool) bool {
	if len(left) == 0 {
		return from == to
	}
	for i, s := range left {
		if inTime && slices.ContainsFunc(left, func(other *stepped) bool { return other.end < s.begun }) {
			continue
		}
		now, ok := s.do(from)
		if s.retire && s.err != nil { // it may always think that it had better not
			now, ok = from, false
		}
		if (ok == (s.err == nil) || s.twin) && explained(now, to, slices.Delete(slices.Clone(left), i, i+1), inTime) {
			return true
		}
		if !s.pushes() || s.halves == s.deletions {
			continue
		}
		tags := strings.Fields(s.tags)
		for n := range max(1, len(tags)) {
			half := *s
			half.halves++
			rest := slices.Clone(left)
			rest[i] = &half
			now, _ := deed{tags: strings.Join(tags[:n], " ")}.do(from)
			if explained(now, to, rest, inTime) {
				return true
			}
		}
	}
	return false
}

// whole wants that nothing names what is not there, and that a deletion finds everything.
func (r *race) whole(order []int) {
	r.t.Helper()
	is := r.state()
	if !is.there && (is.listed || is.tags != "") {
		r.t.Errorf("in order %v: the manifest is gone, and in the end there is %+v", order, is)
		return
	}
	defer func(o local.Options) { r.options = o }(r.options)
	r.options.ImmutableTags = nil
	if err := r.delete(r.open(r.records)); err != nil && (is.there || !origin.Unknown(err)) {
		r.t.Errorf("in order %v: deletion in the end: %v", order, err)
	}
	if left := r.state(); left != (state{}) {
		r.t.Errorf("in order %v: a deletion in the end leaves %+v of %+v", order, left, is)
	}
}

var (
	nothing   = func(*race, *local.Registry) {}
	there     = func(r *race, reg *local.Registry) { r.must(r.push(reg)) }
	tagged    = func(r *race, reg *local.Registry) { r.must(r.push(reg, "x")) }
	noted     = func(r *race, reg *local.Registry) { r.must(r.push(reg)); r.must(r.push(reg, "x")) }
	untagged  = func(r *race, reg *local.Registry) { tagged(r, reg); r.untag(reg, "x") }
	undone    = func(r *race, reg *local.Registry) { noted(r, reg); r.untag(reg, "x") }
	abandoned = func(r *race, reg *local.Registry) {
		noted(r, reg)
		r.must(reg.Suspect(r.t.Context(), origintest.Repo(r.t, "a"), r.tree.Digest()))
	}
)

func (r *race) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *race) untag(reg *local.Registry, tag string) {
	r.t.Helper()
	r.must(reg.DeleteManifest(r.t.Context(), origintest.Repo(r.t, "a"), origintest.Ref(r.t, tag)))
}

// TestDeletionMeetsPush: one process deletes a manifest by its digest while others push it,
// in every order of their calls to the store. Each order ends as if they had come one after
// the other.
func TestDeletionMeetsPush(t *testing.T) {
	few := []string{"nothing", "noted", "undone"}
	del, x, none := deed{delete: true}, deed{tags: "x"}, deed{}
	befores := map[string]func(*race, *local.Registry){
		"nothing": nothing, "there": there, "tagged": tagged, "noted": noted,
		"untagged": untagged, "undone": undone, "abandoned": abandoned,
	}
	for _, c := range []struct {
		deeds    []deed
		switches int
		befores  []string
	}{
		{[]deed{del, x}, 3, nil},
		{[]deed{del, none}, 3, nil},
		{[]deed{del, {tags: "v1"}}, 3, nil},
		{[]deed{del, del}, 3, []string{"noted", "abandoned"}},
		{[]deed{x, {tags: "y"}}, 3, []string{"nothing", "undone"}},
		{[]deed{{retire: true}, x}, 3, few},
		{[]deed{{retire: true}, none}, 3, few},
		{[]deed{{retire: true}, del, x}, 2, few},
		{[]deed{del, {tags: "x y"}}, 2, few},
		{[]deed{del, x, {tags: "y"}}, 2, few},
		{[]deed{del, del, x}, 2, few},
		{[]deed{del, x, {tags: "v1"}}, 2, few},
	} {
		for name, before := range befores {
			if c.befores != nil && !slices.Contains(c.befores, name) {
				continue
			}
			t.Run(fmt.Sprint(name, ": ", c.deeds), func(t *testing.T) {
				r := newRace(t, before, c.deeds...)
				r.switches = c.switches
				if raceDetector {
					r.switches--
				}
				// What was pushed while a deletion ran may be gone, too, where that ends before
				// an immutable tag.
				inTime := len(c.deeds) < 3 || c.deeds[2].tags != "v1"
				var from state
				look := r.before
				r.before = func(reg *local.Registry) { look(reg); from = r.state() }
				r.all(func(order []int, deeds []*stepped) {
					for _, s := range deeds {
						if s.err != nil && !origin.Unknown(s.err) && !errors.Is(s.err, origin.ErrDenied) && !(s.retire && errors.Is(s.err, origin.ErrInUse)) {
							t.Errorf("in order %v: %v: %v", order, s.deed, s.err)
						}
					}
					if to := r.state(); !explained(from, to, deeds, inTime) {
						t.Errorf("in order %v: from %+v to %+v", order, from, to)
						for _, s := range deeds {
							t.Errorf("%v: %v", s.deed, s.err)
						}
					}
					r.whole(order)
				})
				t.Logf("%d orders", r.runs)
			})
		}
	}
}

// TestDeletionDies: a process ends while it deletes a manifest that another one pushes. The
// push is done, nothing names what is not there, and a deletion finds everything.
func TestDeletionDies(t *testing.T) {
	for name, before := range map[string]func(*race, *local.Registry){"tagged": tagged, "undone": undone} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			for dies := 1; ; dies++ {
				r := newRace(t, before, deed{delete: true}, deed{tags: "x"})
				r.switches, r.dies = 2, dies
				died := false
				r.all(func(order []int, deeds []*stepped) {
					if err := deeds[1].err; err != nil {
						t.Errorf("in order %v: push: %v", order, err)
					}
					died = died || errors.Is(deeds[0].err, errDied)
					r.whole(order)
				})
				runs += r.runs
				if !died || t.Failed() {
					break
				}
			}
			t.Logf("%d orders", runs)
		})
	}
}
