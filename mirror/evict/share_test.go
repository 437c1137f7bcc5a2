package evict_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store/mem"
)

// council is what caches share: who leads, and what they mention.
type council struct {
	mu      sync.Mutex
	leader  *member
	members []*member
	away    bool
}

type member struct {
	council *council
	changed func(keys []string)
	lost    chan struct{}
}

func (c *council) member() *member {
	m := &member{council: c}
	c.members = append(c.members, m)
	return m
}

func (m *member) Lead(context.Context) (release func(), lost <-chan struct{}, held bool) {
	c := m.council
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away || c.leader != nil {
		return nil, nil, !c.away
	}
	c.leader, m.lost = m, make(chan struct{})
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.leader == m {
			c.leader = nil
		}
	}, m.lost, false
}

// loses lets whoever leads lose that.
func (c *council) loses() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.leader.lost)
	c.leader = nil
}

func (c *council) goes(away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = away
}

func (m *member) Mention(_ context.Context, keys ...string) {
	for _, other := range m.council.members {
		if other != m {
			other.changed(keys)
		}
	}
}

func (m *member) Subscribe(changed func(keys []string), _ func()) func() bool {
	m.changed = changed
	return func() bool {
		m.council.mu.Lock()
		defer m.council.mu.Unlock()
		return !m.council.away
	}
}

// together runs two caches of 100 bytes over one shelf; the first one leads.
func together(t *testing.T, do func(t *testing.T, c *council, one, other *rig)) {
	togetherWithin(t, evict.Limits{MaxSize: 100}, do)
}

func togetherWithin(t *testing.T, limits evict.Limits, do func(t *testing.T, c *council, one, other *rig)) {
	synctest.Test(t, func(t *testing.T) {
		shelf, records, c := newShelf(), mem.NewRecords(), &council{}
		var each []*rig
		for range 2 {
			r := &rig{t: t, shelf: shelf, records: records, opts: evict.Options{Limits: limits, Shared: c.member()}}
			each = append(each, r)
			r.start()
			time.Sleep(time.Second) // it looks who leads
		}
		do(t, c, each[0], each[1])
		for _, r := range each {
			r.close()
		}
	})
}

// told has one cache told that the other's mirror has linked those, or does not any more.
func (r *rig) told(mirrored bool, names ...string) {
	for _, name := range names {
		r.Relinked(r.repo, blob(name), mirrored)
	}
	synctest.Wait()
}

// One of two evicts, what either has stored; the other one counts what is left.
func TestOneEvicts(t *testing.T) {
	together(t, func(t *testing.T, _ *council, one, other *rig) {
		one.pulls(40, "a")
		other.told(true, "a")
		other.pulls(40, "b")
		one.told(true, "b")
		other.pulls(30, "c") // it fits in with what has not left yet
		one.want("a", "b", "c")
		one.told(true, "c")
		one.want("b", "c")
		other.told(false, "a")
		if one.Bytes() != 70 || other.Bytes() != 70 {
			t.Errorf("they count %d and %d", one.Bytes(), other.Bytes())
		}
		// Who does not evict stores no more than an eighth above the budget.
		if err := other.pull("d", 50); err == nil {
			t.Error("there was room")
		}
	})
}

// Another one evicts once who did has lost that; and nobody while it cannot be said who
// may, or while it is not certain what there is: nor is anything stored beyond the budget.
func TestWhoEvicts(t *testing.T) {
	together(t, func(t *testing.T, c *council, one, other *rig) {
		one.pulls(60, "a")
		other.told(true, "a")
		c.loses()
		c.goes(true)
		time.Sleep(2 * time.Second)
		for _, r := range []*rig{one, other} {
			if err := r.pull("b", 60); err == nil {
				t.Error("there was room without anybody who evicts")
			}
		}
		one.want("a")
		c.goes(false)
		time.Sleep(2 * time.Second)
		one.Missed()
		other.Missed()
		if err := other.pull("b", 60); err == nil {
			t.Error("there was room while it was not certain what there is")
		}
		time.Sleep(5 * time.Second)
		leads := one
		if err := one.pull("b", 60); err != nil {
			leads = other
			other.pulls(60, "b")
		}
		leads.want("b")
	})
}

// What was missed is found by listing again: what came, and what went.
func TestMissed(t *testing.T) {
	together(t, func(t *testing.T, _ *council, one, other *rig) {
		one.pulls(20, "a", "b")
		other.pulls(20, "c", "d")
		one.shelf.mu.Lock()
		delete(one.shelf.blobs, blob("a"))
		one.shelf.mu.Unlock()
		for _, r := range []*rig{one, other} {
			r.Missed()
			time.Sleep(4 * time.Second)
			if r.Bytes() != 60 {
				t.Errorf("it counts %d", r.Bytes())
			}
		}
	})
}

// What is used at the other cache stays, with all of its image; and is written down by either.
func TestUseElsewhere(t *testing.T) {
	together(t, func(t *testing.T, _ *council, one, other *rig) {
		one.pulls(30, "a", "b", "c")
		other.told(true, "a", "b", "c")
		time.Sleep(time.Second)
		other.image("image", "a", "b")
		time.Sleep(2 * time.Second)
		one.pulls(30, "d")
		one.want("a", "b", "d")
	})
}

// A blob that is read here is spared when another replica condemns it, and one that is not
// is not; of either no address is given.
func TestSpared(t *testing.T) {
	together(t, func(t *testing.T, _ *council, one, other *rig) {
		one.pulls(30, "a", "b")
		done := other.Reading(origin.Repo{}, blob("a"))
		for _, name := range []string{"a", "b"} {
			if other.Going(blob(name)) {
				t.Errorf("%s is going", name)
			}
			other.Condemned(blob(name))
			if !other.Going(blob(name)) {
				t.Errorf("%s is not going", name)
			}
		}
		synctest.Wait()
		if got := strings.Join(one.shelf.sparing, " "); got != "a" {
			t.Errorf("spared %q", got)
		}
		done()
		time.Sleep(2 * time.Minute)
		if other.Going(blob("b")) {
			t.Error("it is going for ever")
		}
	})
}
