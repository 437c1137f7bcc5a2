package coord_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/mem"
)

// rig is two replicas of one store, and their server.
type rig struct {
	*testing.T
	server     *coordtest.Server
	records    store.Records
	one, other *coord.Redis
}

func newRig(t *testing.T, patience ...time.Duration) *rig {
	r := &rig{T: t, server: coordtest.Start(t), records: mem.NewRecords()}
	r.one, r.other = replica(t, r.server, r.records, patience...), replica(t, r.server, r.records, patience...)
	return r
}

func (r *rig) lock(c *coord.Redis, name string, ttl time.Duration) coord.Lock {
	r.Helper()
	l, err := c.TryLock(r.Context(), name, "http://holder", ttl)
	if err != nil {
		r.Fatal(err)
	}
	return l
}

func (r *rig) lost(l coord.Lock) {
	r.Helper()
	select {
	case <-l.Lost():
		if l.Until().After(time.Now()) {
			r.Error("lost, and held until later")
		}
	case <-time.After(coordtest.Limit):
		r.Error("nobody was told that the lock is lost")
	}
}

// TestRedisIsStopped: all that it kept is gone, which costs what it was to save; and
// whoever is not told of changes knows it, before and after.
func TestRedisIsStopped(t *testing.T) {
	r := newRig(t)
	heard := coordtest.Listen(t, r.other)
	l := r.lock(r.one, "x", time.Second)
	r.one.Set(t.Context(), "a", []byte("1"), time.Hour)
	missed := heard.Missed()
	r.server.Stop()
	coordtest.Eventually(t, "the subscription knows that it is not current", func() bool { return !heard.Current() })
	r.lost(l)
	if _, ok := r.one.Get(t.Context(), "a"); ok {
		t.Error("a value, of a server that is away")
	}
	if _, err := r.other.TryLock(t.Context(), "x", "", time.Second); !errors.Is(err, coord.ErrAway) {
		t.Errorf("a lock of a server that is away: %v", err)
	}
	l.Unlock()
	r.one.Mention(t.Context(), "k") // and nobody is told anything of it
	if err := r.other.Settle(t.Context()); !errors.Is(err, coord.ErrAway) {
		t.Errorf("settled without a server: %v", err)
	}

	r.server.Restart()
	coordtest.Eventually(t, "it is current again", heard.Current)
	if heard.Missed() <= missed {
		t.Error("nobody was told that something may have been missed")
	}
	coordtest.Eventually(t, "there are locks again", func() bool {
		again, err := r.other.TryLock(t.Context(), "x", "", time.Second)
		if err == nil && again.Token() <= l.Token() {
			t.Errorf("token %d after %d", again.Token(), l.Token())
		}
		return err == nil
	})
	r.one.Publish(t.Context(), "k")
	coordtest.Eventually(t, "changes are told", func() bool { return slices.Contains(heard.Keys(), "k") || heard.Missed() > missed+1 })
}

// TestRedisHangs: a server that takes connections and says nothing is found out by one
// call, the others do not wait; what is published meanwhile is told by the store.
func TestRedisHangs(t *testing.T) {
	r := newRig(t, coord.Patience)
	heard := coordtest.Listen(t, r.other)
	var l coord.Lock
	coordtest.Eventually(t, "it has the lock", func() (ok bool) { // its patience is short
		var err error
		l, err = r.one.TryLock(t.Context(), "x", "http://holder", time.Second)
		return err == nil
	})
	r.server.Hold()
	defer r.server.Resume()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 { // 250 s, if each of them waited
			r.one.Get(t.Context(), "a")
		}
	}()
	select {
	case <-done:
	case <-time.After(coordtest.Limit):
		t.Fatal("every call waits for a server that hangs")
	}
	coordtest.Eventually(t, "the subscription knows that it is not current", func() bool { return !heard.Current() })
	r.lost(l)
	for i := range 3 {
		missed := heard.Missed()
		r.one.Publish(t.Context(), fmt.Sprint(i))
		coordtest.Eventually(t, "what cannot be published is told all the same", func() bool { return heard.Missed() > missed })
	}
	r.server.Resume()
	coordtest.Eventually(t, "it is current again", heard.Current)
	coordtest.Eventually(t, "there are values again", func() bool {
		r.one.Set(t.Context(), "a", []byte("1"), time.Hour)
		_, ok := r.other.Get(t.Context(), "a")
		return ok
	})
}

// TestPublisherAloneIsCutOff: one replica does not reach Redis while the others do. They
// are told by the store what it writes.
func TestPublisherAloneIsCutOff(t *testing.T) {
	r := newRig(t)
	heard := coordtest.Listen(t, r.other)
	key, err := coord.SharedKey(t.Context(), r.records)
	if err != nil {
		t.Fatal(err)
	}
	cut, err := coord.NewRedis(coord.RedisOptions{
		URL: func() (string, error) { return "redis://127.0.0.1:1", nil }, Key: key, Records: r.records,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cut.Close() }()
	for range 3 {
		missed := heard.Missed()
		cut.Publish(t.Context(), "k")
		coordtest.Eventually(t, "it is told", func() bool { return heard.Missed() > missed })
	}
	coordtest.Eventually(t, "it is current", heard.Current)
}

// spoilt are records of which one is damaged until it is written again.
type spoilt struct {
	store.Records
	damaged atomic.Bool
}

func (s *spoilt) Get(ctx context.Context, key string) (store.Record, error) {
	if key == coord.UnannouncedRecord && s.damaged.Load() {
		return store.Record{}, store.ErrDamaged
	}
	return s.Records.Get(ctx, key)
}

func (s *spoilt) Put(ctx context.Context, key string, data []byte, c store.Condition) (string, error) {
	if key == coord.UnannouncedRecord && s.damaged.Load() {
		if c != store.Always() {
			return "", store.ErrConflict
		}
		defer s.damaged.Store(false)
	}
	return s.Records.Put(ctx, key, data, c)
}

// TestDamagedRecord: the record by which all are told what Redis does not tell is damaged. It
// is written anew, and all is as before.
func TestDamagedRecord(t *testing.T) {
	server, records := coordtest.Start(t), &spoilt{Records: mem.NewRecords()}
	one, other := replica(t, server, records), replica(t, server, records)
	own, heard := coordtest.Listen(t, one), coordtest.Listen(t, other)
	records.damaged.Store(true)
	coordtest.Eventually(t, "it is written anew", func() bool { return !records.damaged.Load() })
	coordtest.Eventually(t, "both are current", func() bool { return own.Current() && heard.Current() })
	one.Publish(t.Context(), "k")
	coordtest.Eventually(t, "it is told", func() bool { return slices.Contains(heard.Keys(), "k") })
}

// TestTwoMasters: each of two replicas reaches a server, and they are not the same. At no time
// both believe that they are told all, and what one publishes is told to the other, or that one
// knows that it is told nothing. When one server is gone whoever has the other one is current.
func TestTwoMasters(t *testing.T) {
	first, second, records := coordtest.Start(t), coordtest.Start(t), mem.NewRecords()
	one, other := replica(t, first, records), replica(t, second, records)
	own := coordtest.Listen(t, one)
	heard := coordtest.Hear(other)
	end, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
			}
			if own.Current() && heard.Current() && own.Current() {
				t.Error("both believe that they are told all")
				return
			}
		}
	}()
	for range 2 {
		for by, to := range map[*coord.Redis]*coordtest.Heard{one: heard, other: own} {
			coordtest.Eventually(t, "each believes it at times", to.Current)
			missed := to.Missed()
			by.Publish(t.Context(), "k")
			coordtest.Eventually(t, "it is told, or knows that it is not", func() bool { return to.Missed() > missed || !to.Current() })
		}
	}
	close(end)
	<-watched
	second.Stop()
	coordtest.Eventually(t, "the one that has a server is current", own.Current)
	missed := own.Missed()
	other.Publish(t.Context(), "k")
	coordtest.Eventually(t, "it is told by the record", func() bool { return own.Missed() > missed })
	// That server is there again, and the other one is not: it is named by whoever has it.
	first.Stop()
	second.Restart()
	coordtest.Eventually(t, "the other one is current", heard.Current)
}

// TestServerWithoutName: one that may not say which it is serves all who have one.
func TestServerWithoutName(t *testing.T) {
	r := newRig(t)
	r.server.Do("ACL", "SETUSER", "default", "-info")
	heard := coordtest.Listen(t, r.other)
	r.one.Publish(t.Context(), "k")
	coordtest.Eventually(t, "it is told", func() bool { return slices.Equal(heard.Keys(), []string{"k"}) })
}

// TestRedisForgets: FLUSHALL. A lock that is gone is lost, and the next one has a greater
// token.
func TestRedisForgets(t *testing.T) {
	r := newRig(t)
	l := r.lock(r.one, "x", time.Second)
	r.one.Set(t.Context(), "a", []byte("1"), time.Hour)
	r.server.Do("FLUSHALL")
	next := r.lock(r.other, "x", time.Minute)
	if next.Token() <= l.Token() {
		t.Errorf("token %d after %d", next.Token(), l.Token())
	}
	r.lost(l)
	l.Unlock()
	if _, err := r.one.TryLock(t.Context(), "x", "", time.Second); err == nil {
		t.Error("who has lost a lock gave back another's")
	}
	if _, ok := r.other.Get(t.Context(), "a"); ok {
		t.Error("a value, of a server that has forgotten it")
	}
}

// TestWrongTypes: somebody made lists of all that is there.
func TestWrongTypes(t *testing.T) {
	r := newRig(t)
	l := r.lock(r.one, "x", time.Second)
	r.one.Set(t.Context(), "a", []byte("1"), time.Hour)
	for _, key := range r.server.Keys() {
		r.server.Do("DEL", key)
		r.server.Do("LPUSH", key, "1")
	}
	if v, ok := r.other.Get(t.Context(), "a"); ok {
		t.Errorf("a list is the value %q", v)
	}
	r.lost(l)
	if next := r.lock(r.other, "x", time.Minute); next.Token() <= l.Token() {
		t.Errorf("token %d after %d", next.Token(), l.Token())
	}
	r.one.Set(t.Context(), "a", []byte("2"), time.Hour)
	if v, ok := r.other.Get(t.Context(), "a"); !ok || string(v) != "2" {
		t.Errorf("%q (%t), after it was set again", v, ok)
	}
}

// TestFlippedBytes: of a value of which one byte is another, nothing is believed, nor of
// one that stands under another's name.
func TestFlippedBytes(t *testing.T) {
	r := newRig(t)
	r.one.Set(t.Context(), "a", []byte("value"), time.Hour)
	r.one.Set(t.Context(), "b", []byte("other"), time.Hour)
	r.lock(r.one, "x", time.Hour)
	flipped := 0
	for _, key := range r.server.Keys() {
		if r.server.Do("TTL", key) == "-1" {
			continue // the counter of tokens
		}
		whole := r.server.Do("GET", key)
		for i := range len(whole) {
			bad := []byte(whole)
			bad[i] ^= 1
			r.server.Do("SET", key, string(bad), "KEEPTTL")
			flipped++
			va, oka := r.other.Get(t.Context(), "a")
			vb, okb := r.other.Get(t.Context(), "b")
			if oka && string(va) != "value" || okb && string(vb) != "other" {
				t.Fatalf("byte %d of %s: %q, %q", i, key, va, vb)
			}
			_, err := r.other.TryLock(t.Context(), "x", "", time.Second)
			held, ok := errors.AsType[*coord.HeldError](err)
			if !ok || held.Holder != "http://holder" && held.Holder != "" {
				t.Fatalf("byte %d of %s: %v %+v", i, key, err, held)
			}
			if oka && okb && held.Holder != "" {
				t.Fatalf("byte %d of %s is another, and all is believed", i, key)
			}
		}
		r.server.Do("SET", key, whole, "KEEPTTL")
	}
	if flipped < 100 {
		t.Errorf("only %d bytes: this looks at nothing", flipped)
	}
	var names []string
	for _, key := range r.server.Keys() {
		if len(key) > 2 && (key[len(key)-2:] == ":a" || key[len(key)-2:] == ":b") {
			names = append(names, key)
		}
	}
	a, b := r.server.Do("GET", names[0]), r.server.Do("GET", names[1])
	r.server.Do("SET", names[0], b)
	r.server.Do("SET", names[1], a)
	for _, key := range []string{"a", "b"} {
		if v, ok := r.other.Get(t.Context(), key); ok {
			t.Errorf("%s is %q, which is another's value", key, v)
		}
	}
}

// TestNeighbours: replicas of another store on the same server see nothing of these.
func TestNeighbours(t *testing.T) {
	r := newRig(t)
	stranger := replica(t, r.server, mem.NewRecords())
	heard := coordtest.Listen(t, stranger)
	r.lock(r.one, "x", time.Minute)
	r.lock(stranger, "x", time.Minute)
	r.one.Set(t.Context(), "a", []byte("1"), time.Hour)
	if _, ok := stranger.Get(t.Context(), "a"); ok {
		t.Error("the value of another store")
	}
	r.one.Publish(t.Context(), "k")
	other := coordtest.Listen(t, r.other)
	r.one.Publish(t.Context(), "end")
	coordtest.Eventually(t, "those of the store are told", func() bool { return len(other.Keys()) > 0 })
	if got := heard.Keys(); len(got) > 0 {
		t.Errorf("told of another store's %q", got)
	}
}

// TestPasswordChanges: a connection that is made later uses the password of then.
func TestPasswordChanges(t *testing.T) {
	r := newRig(t)
	var password atomic.Value
	password.Store("first")
	r.server.Do("CONFIG", "SET", "requirepass", password.Load().(string))
	key, err := coord.SharedKey(t.Context(), r.records)
	if err != nil {
		t.Fatal(err)
	}
	c, err := coord.NewRedis(coord.RedisOptions{
		URL: func() (string, error) { return "redis://:" + password.Load().(string) + "@" + r.server.Addr(), nil }, Key: key, Records: r.records,
		Patience: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	r.lock(c, "x", time.Minute).Unlock()
	password.Store("second")
	r.server.Stop()
	r.server.Restart()
	r.server.Do("CONFIG", "SET", "requirepass", password.Load().(string))
	coordtest.Eventually(t, "it logs in again", func() bool {
		_, err := c.TryLock(t.Context(), "y", "", time.Minute)
		return err == nil
	})
}
