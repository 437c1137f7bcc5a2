package local_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// errDied is what a process gets from the store that has ended, as far as others know.
var errDied = errors.New("died")

// process is one of several that make their calls to a store in turns.
type process struct {
	store.Records
	ready, turn chan struct{}
	live        bool // the next turn is a call, else nothing is called any more
	calls       int
	dies        int // at this call; 0: never
}

// call waits until it is the process's turn.
func (p *process) call() error {
	if p.dies > 0 && p.calls >= p.dies {
		return errDied
	}
	p.ready <- struct{}{}
	<-p.turn
	if p.calls++; p.calls == p.dies {
		return errDied
	}
	return nil
}

func (p *process) Get(ctx context.Context, key string) (store.Record, error) {
	if err := p.call(); err != nil {
		return store.Record{}, err
	}
	return p.Records.Get(ctx, key)
}

func (p *process) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	if err := p.call(); err != nil {
		return "", err
	}
	return p.Records.Put(ctx, key, data, if_)
}

func (p *process) Delete(ctx context.Context, key string, if_ store.Condition) error {
	if err := p.call(); err != nil {
		return err
	}
	return p.Records.Delete(ctx, key, if_)
}

// List reads each entry by a call of its own: what is written meanwhile may be listed or not.
func (p *process) List(ctx context.Context, prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := p.call(); err != nil {
			yield(store.Entry{}, err)
			return
		}
		for e, err := range p.Records.List(ctx, prefix, after) {
			if !yield(e, err) {
				return
			}
			if err := p.call(); err != nil {
				yield(store.Entry{}, err)
				return
			}
		}
	}
}

// deed is what a process does: it pushes the manifest with tags, deletes it, or retires it,
// which does nothing if that is in use.
type deed struct {
	delete, retire bool
	tags           string // separated by spaces
}

func (d deed) pushes() bool { return !d.delete && !d.retire }

func (d deed) String() string {
	switch {
	case d.delete:
		return "deletion"
	case d.retire:
		return "retirement"
	}
	return fmt.Sprintf("push of [%s]", d.tags)
}

// state is what a repository has of the manifest, by the records.
type state struct {
	there, listed bool // the manifest, and that among the referrers of its subject
	tags          string
}

// stepped is a deed under way.
type stepped struct {
	deed
	process
	err        error
	begun, end int  // turns
	twin       bool // beside another one that deletes: both are told that it is gone
	halves     int  // how often it has come in part
	deletions  int  // how many there are beside it
}

// race is some deeds at a time, by processes that share nothing but the store.
type race struct {
	t       *testing.T
	tree    origintest.Tree
	subject digest.Digest
	before  func(reg *local.Registry)
	deeds   []deed
	dies    int // at which call the first process ends; 0: never
	// switches is how many times a process is interrupted that could go on; -1: always.
	switches int

	records *mem.Records
	options local.Options
	runs    int
}

func newRace(t *testing.T, before func(r *race, reg *local.Registry), deeds ...deed) *race {
	subject := origintest.NewManifest("application/vnd.oci.image.index.v1+json", []byte(`{"schemaVersion":2,"manifests":[]}`))
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		subject.MediaType, subject.Digest, subject.Size)
	r := &race{
		t: t, deeds: deeds, subject: subject.Digest, switches: -1,
		tree:    origintest.Tree{Manifest: origintest.NewManifest("application/vnd.oci.image.index.v1+json", []byte(body))},
		options: local.Options{Delete: true, ImmutableTags: []*regexp.Regexp{regexp.MustCompile("v.*")}},
	}
	r.before = func(reg *local.Registry) { before(r, reg) }
	return r
}

// open gives the registry of a process that believes that nobody else writes, as long as it
// may: nothing is told in time.
func (r *race) open(records store.Records) *local.Registry {
	r.t.Helper()
	others := &silent{}
	others.current.Store(true)
	o := r.options
	o.Others = others
	reg, err := local.New(mem.NewBlobs(), records, o)
	if err != nil {
		r.t.Fatal(err)
	}
	return reg
}

func (r *race) push(reg *local.Registry, tags ...string) error {
	var o origin.PushOptions
	for _, tag := range tags {
		o.Tags = append(o.Tags, origintest.Ref(r.t, tag))
	}
	_, err := reg.Push(r.t.Context(), origintest.Repo(r.t, "a"), r.tree.Manifest, o)
	return err
}

func (r *race) delete(reg *local.Registry) error {
	return reg.DeleteManifest(r.t.Context(), origintest.Repo(r.t, "a"), origin.ByDigest(r.tree.Digest()))
}

func (r *race) retire(reg *local.Registry) error {
	repo := origintest.Repo(r.t, "a")
	if err := reg.Suspect(r.t.Context(), repo, r.tree.Digest()); err != nil {
		return err
	}
	return reg.Discard(r.t.Context(), repo, r.tree.Digest())
}

// run has the deeds done in the order that next says: which of the processes that have
// something to do is to make its next call, where current made the last one.
func (r *race) run(next func(able []int, current int) int) []*stepped {
	r.runs++
	r.records = mem.NewRecords()
	r.before(r.open(r.records))
	done := make(chan int)
	all := make([]*stepped, len(r.deeds))
	for i, d := range r.deeds {
		s := &stepped{deed: d, process: process{Records: r.records, ready: make(chan struct{}), turn: make(chan struct{}), live: true}}
		if i == 0 {
			s.dies = r.dies
		}
		all[i] = s
		go func() {
			reg := r.open(&s.process)
			switch {
			case s.delete:
				s.err = r.delete(reg)
			case s.retire:
				s.err = r.retire(reg)
			default:
				s.err = r.push(reg, strings.Fields(s.tags)...)
			}
			done <- i
		}()
		r.await(s, done)
	}
	for turn, current := 1, -1; ; turn++ {
		var able []int
		for i, s := range all {
			if s.live {
				able = append(able, i)
			}
		}
		if len(able) == 0 {
			for _, s := range all {
				s.deletions = r.deletions()
				s.twin = slices.ContainsFunc(all, func(other *stepped) bool {
					return other != s && !s.pushes() && !other.pushes() && s.err == nil && other.err == nil && s.begun < other.end && other.begun < s.end
				})
			}
			return all
		}
		current = next(able, current)
		s := all[current]
		if s.begun == 0 {
			s.begun = turn
		}
		s.turn <- struct{}{}
		r.await(s, done)
		s.end = turn
	}
}

func (r *race) deletions() (n int) {
	for _, d := range r.deeds {
		if !d.pushes() {
			n++
		}
	}
	return n
}

// await waits until a process is about to make a call, or has none to make.
func (r *race) await(s *stepped, done chan int) {
	select {
	case <-s.ready:
	case <-done:
		s.live = false
	}
}

// all runs every order there is, or those with so many switches, and checks each.
func (r *race) all(check func(order []int, deeds []*stepped)) {
	r.t.Helper()
	var forced []int // what is chosen at the beginning of a run: positions in able
	for {
		var chosen, options, order []int
		left := r.switches
		deeds := r.run(func(able []int, current int) int {
			if at := slices.Index(able, current); at >= 0 {
				if left == 0 {
					able = able[at : at+1]
				} else { // to go on is the first choice
					able = append([]int{current}, slices.Delete(slices.Clone(able), at, at+1)...)
				}
			}
			choice := 0
			if len(chosen) < len(forced) {
				choice = forced[len(chosen)]
			}
			if choice > 0 && able[0] == current {
				left--
			}
			chosen, options = append(chosen, choice), append(options, len(able))
			order = append(order, able[choice])
			return able[choice]
		})
		check(order, deeds)
		if r.t.Failed() {
			return
		}
		last := len(chosen) - 1
		for last >= 0 && chosen[last]+1 == options[last] {
			last--
		}
		if last < 0 {
			return
		}
		forced = append(slices.Clone(chosen[:last]), chosen[last]+1)
	}
}
