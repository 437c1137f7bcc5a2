package events_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin/events"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// Why an event was not taken is said to whoever may know of it: no address, no name of a
// host, and no name of a file.
func TestReasonsAreNoSecrets(t *testing.T) {
	const unsent = "it could not be sent: the log says why"
	for what, c := range map[string]struct {
		change func(*box, *events.Receiver)
		want   string
	}{
		"a status": {func(b *box, _ *events.Receiver) {
			b.to.answer = func(told) (int, error) { return 503, nil }
		}, "answered 503"},
		"a redirect": {func(b *box, _ *events.Receiver) {
			b.to.answer = func(told) (int, error) { return 302, nil }
		}, "answered 302"},
		"silence": {func(b *box, _ *events.Receiver) { b.to.hold = make(chan struct{}) }, "no answer within 10s"},
		"the network": {func(b *box, _ *events.Receiver) {
			b.to.answer = func(told) (int, error) {
				return 0, errors.New("lookup hooks.internal on 10.0.0.2:53: no such host")
			}
		}, unsent},
		"a file": {func(_ *box, r *events.Receiver) {
			r.Secret = func() (string, error) { return "", errors.New("open /etc/weir/hook.key: permission denied") }
		}, unsent},
	} {
		t.Run(what, func(t *testing.T) {
			in(t, func(t *testing.T) {
				b := newBox(t, records(), nil)
				c.change(b, &b.config)
				b.Receive(source, []events.Receiver{b.config})
				b.Start(there{})
				defer b.Close(t.Context())
				b.push("a", "1")
				time.Sleep(10500 * time.Millisecond)
				synctest.Wait()
				kept, err := b.Kept(t.Context(), true)
				if err != nil || len(kept) != 1 || kept[0].Reason != c.want || kept[0].Attempts == 0 {
					t.Errorf("%+v, %v", kept, err)
				}
			})
		})
	}
}

// rotten records have lost what one of them says.
type rotten struct {
	*mem.Records
	key string // its own
}

func (r *rotten) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := r.Records.Get(ctx, key)
	if err == nil && r.key == key {
		rec.Version = ""
		return rec, store.ErrDamaged
	}
	return rec, err
}

// A record that is damaged keeps neither its repository's later events waiting, nor the list
// of those that wait from being given; and it goes.
func TestDamagedEventIsDropped(t *testing.T) {
	in(t, func(t *testing.T) {
		kept := &rotten{Records: records()}
		b := newBox(t, kept, nil)
		b.push("a", "1")
		b.push("a", "2")
		for e, err := range kept.List(t.Context(), "events", "") {
			if err != nil {
				t.Fatal(err)
			}
			kept.key = e.Key
			break
		}
		if list, err := b.Kept(t.Context(), true); err != nil || len(list) != 1 || list[0].Tag != "2" {
			t.Errorf("%+v, %v", list, err)
		}
		b.Start(there{})
		defer b.Close(t.Context())
		synctest.Wait()
		if got, left := b.to.subjects(), b.waiting(); got != "a:2" || strings.Contains(left, "queue") {
			t.Errorf("told %q, left %q", got, left)
		}
	})
}

// counted are records that say how many were read.
type counted struct {
	*mem.Records
	n atomic.Int64
}

func (c *counted) Get(ctx context.Context, key string) (store.Record, error) {
	c.n.Add(1)
	return c.Records.Get(ctx, key)
}

// Of very many events the newest are shown, and only these are read; of dead letters none
// is, unless they are asked for.
func TestNewestAreKept(t *testing.T) {
	in(t, func(t *testing.T) {
		kept := &counted{Records: records()}
		b := newBox(t, kept, nil)
		const waiting, shown, buried = 950, 200, 1000
		for i := range waiting {
			b.push("a", fmt.Sprint(i))
			time.Sleep(time.Second)
		}
		list := func(dead bool, want int) []events.Kept {
			kept.n.Store(0)
			all, err := b.Kept(t.Context(), dead)
			if n := kept.n.Load(); err != nil || len(all) != want || n != int64(want) {
				t.Fatalf("%d of %d, %d were read, %v", len(all), want, n, err)
			}
			return all
		}
		for i, k := range list(true, shown) {
			if want := fmt.Sprint(waiting - shown + i); k.Tag != want || k.Dead {
				t.Fatalf("%+v instead of %s", k, want)
			}
		}
		rec, err := kept.Get(t.Context(), "events/queue/ci/"+list(false, shown)[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		for i := range buried + 10 {
			if _, err := kept.Put(t.Context(), fmt.Sprintf("events/dead/ci/%05d", i), rec.Data, store.Always()); err != nil {
				t.Fatal(err)
			}
		}
		list(false, shown)
		if all := list(true, shown+buried); !all[shown].Dead || all[shown].ID != "00010" {
			t.Errorf("the first dead one is %+v", all[shown])
		}
	})
}
