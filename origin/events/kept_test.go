package events_test

import (
	"context"
	"errors"
	"strings"
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
				kept, err := b.Kept(t.Context())
				if err != nil || len(kept) != 1 || kept[0].Reason != c.want || kept[0].Attempts == 0 {
					t.Errorf("%+v, %v", kept, err)
				}
			})
		})
	}
}

// rotten records have lost what some of them say.
type rotten struct {
	*mem.Records
	key string // of the first that was listed, once there is rot
	rot bool
}

func (r *rotten) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := r.Records.Get(ctx, key)
	if err == nil && r.rot && (r.key == "" || r.key == key) {
		r.key, rec.Version = key, ""
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
		kept.rot = true
		if list, err := b.Kept(t.Context()); err != nil || len(list) != 1 || list[0].Tag != "2" {
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
