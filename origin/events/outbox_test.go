package events_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/events"
)

type principal string

func (p principal) String() string { return string(p) }

// What a receiver gets is the standard's and the contract's, and nothing stays of it.
func TestPush(t *testing.T) {
	in(t, func(t *testing.T) {
		b := newBox(t, records(), nil)
		b.Start(there{})
		defer b.Close(t.Context())
		ctx := origin.WithRequest(t.Context(), &origin.Request{Principal: principal("basic:ci")})
		c := change(t, "team/app", "v1")
		b.write(b.Pushed(ctx, c))
		synctest.Wait()
		if len(b.to.got) != 1 {
			t.Fatalf("%d events", len(b.to.got))
		}
		e := b.to.got[0]
		want := told{At: e.At, SpecVersion: "1.0", ID: e.ID, Source: source, Type: "io.weir.manifest.push", Subject: "team/app", ContentType: "application/json", Time: time.Now().UTC()}
		want.Data.Repository, want.Data.Tag, want.Data.Digest = "team/app", "v1", c.Digest
		want.Data.MediaType, want.Data.Size, want.Data.Identity, want.Data.Time = c.MediaType, 7, "basic:ci", time.Now().UTC()
		if e != want || e.ID == "" {
			t.Errorf("%+v\nwant %+v", e, want)
		}
		if left := b.waiting(); left != "" || b.counts.of("ci delivered") != 1 {
			t.Errorf("%s is left; %v", left, b.counts)
		}
	})
}

// What is not taken holds up its repository and no other; it comes again after 1, 2, 4, 8
// and 10 seconds, as the same event, and in order.
func TestOrderAndBackOff(t *testing.T) {
	in(t, func(t *testing.T) {
		b := newBox(t, records(), nil)
		var down atomic.Bool
		down.Store(true)
		b.to.answer = func(e told) (int, error) {
			if down.Load() && e.Subject == "a" {
				if len(b.to.tries)%2 == 0 { // the lock is held
					return 0, errDown
				}
				return 503, nil
			}
			return 200, nil
		}
		b.Start(there{})
		defer b.Close(t.Context())
		begun := time.Now()
		for i := range 3 {
			b.push("a", fmt.Sprint(i))
			b.push("b", fmt.Sprint(i))
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if got := b.to.subjects(); got != "b:0 b:1 b:2" {
			t.Errorf("taken: %s", got)
		}
		var waits []time.Duration
		first := ""
		for _, e := range b.to.all() {
			if e.Subject != "a" {
				continue
			}
			if first == "" {
				first = e.ID
			}
			if e.ID != first || e.Data.Tag != "0" {
				t.Errorf("then %s of tag %s", e.ID, e.Data.Tag)
			}
			waits = append(waits, e.At.Sub(begun))
		}
		if got := fmt.Sprint(waits); got != "[0s 1s 3s 7s 15s 25s]" {
			t.Errorf("sent at %s", got)
		}
		down.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := b.to.subjects(); got != "b:0 b:1 b:2 a:0 a:1 a:2" {
			t.Errorf("taken: %s", got)
		}
		if b.counts.of("ci failed") != 6 || b.counts.of("ci delivered") != 6 {
			t.Error(b.counts)
		}
	})
}

// After a day it is a dead letter, and what comes behind it is told.
func TestDeadLetter(t *testing.T) {
	in(t, func(t *testing.T) {
		b := newBox(t, records(), nil)
		b.to.answer = func(e told) (int, error) {
			if e.Data.Tag == "bad" {
				return 400, nil
			}
			return 200, nil
		}
		b.Start(there{})
		defer b.Close(t.Context())
		b.push("a", "bad")
		b.push("a", "good")
		time.Sleep(24*time.Hour - time.Second)
		synctest.Wait()
		if got, left := b.to.subjects(), b.waiting(); got != "" || left != "events/queue/ci events/queue/ci" {
			t.Errorf("taken: %s, left: %s", got, left)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if got, left := b.to.subjects(), b.waiting(); got != "a:good" || left != "events/dead/ci" {
			t.Errorf("taken: %s, left: %s", got, left)
		}
		if b.counts.of("ci dead") != 1 {
			t.Error(b.counts)
		}
		// A month later the next one buries it.
		time.Sleep(31 * 24 * time.Hour)
		synctest.Wait()
		b.push("a", "bad")
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if left := b.waiting(); left != "events/dead/ci" {
			t.Errorf("left: %s", left)
		}
	})
}

// Whoever begins over what another process left tells it, in order.
func TestRestart(t *testing.T) {
	in(t, func(t *testing.T) {
		kept := records()
		first := newBox(t, kept, nil)
		first.to.answer = func(told) (int, error) { return 0, errDown }
		first.Start(there{})
		for i := range 5 {
			first.push("a", fmt.Sprint(i))
		}
		synctest.Wait()
		first.Close(t.Context())
		time.Sleep(time.Second) // ids are times
		second := newBox(t, kept, nil)
		second.Start(there{})
		defer second.Close(t.Context())
		second.push("a", "5")
		synctest.Wait()
		if got := second.to.subjects(); got != "a:0 a:1 a:2 a:3 a:4 a:5" {
			t.Errorf("taken: %s", got)
		}
		if first.to.all()[0].ID != second.to.got[0].ID {
			t.Error("the repetition has another id")
		}
	})
}

// A deletion that nobody said was done is told if it was, after a minute, and is
// forgotten if it was not.
func TestDeletion(t *testing.T) {
	for _, test := range []struct {
		name string
		said bool // that it is done
		has  bool // what was to be deleted
		want string
	}{
		{"done", true, false, "a:v1"},
		{"done, and pushed again since", true, true, "a:v1"},
		{"cut after it was done", false, false, "a:v1"},
		{"cut before", false, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				kept := records()
				first := newBox(t, kept, nil)
				before, after := first.Deleted(t.Context(), change(t, "a", "v1"))
				first.write(before)
				if test.said {
					first.write(after)
				}
				time.Sleep(time.Second) // ids are times
				b := newBox(t, kept, nil)
				b.Start(there{has: map[string]bool{"a:v1": test.has}})
				defer b.Close(t.Context())
				synctest.Wait()
				if got := b.to.subjects(); !test.said && got != "" {
					t.Errorf("told at once: %s", got)
				}
				b.push("a", "v2")
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if got := b.to.subjects(); got != strings.TrimSpace(test.want+" a:v2") {
					t.Errorf("told: %s", got)
				}
				if left := b.waiting(); left != "" {
					t.Errorf("left: %s", left)
				}
			})
		})
	}
}

// One that was cut though the process goes on is decided after a minute, too.
func TestDeletionCutWithoutARestart(t *testing.T) {
	for has, want := range map[bool]string{false: "a:v1 a:v2", true: "a:v2"} {
		in(t, func(t *testing.T) {
			b := newBox(t, records(), nil)
			b.Start(there{has: map[string]bool{"a:v1": has}})
			defer b.Close(t.Context())
			synctest.Wait()
			before, _ := b.Deleted(t.Context(), change(t, "a", "v1"))
			b.write(before)
			// It holds up nobody while it may be under way.
			b.push("b", "v1")
			time.Sleep(time.Minute - time.Nanosecond)
			synctest.Wait()
			if got := b.to.subjects(); got != "b:v1" {
				t.Errorf("told at once: %s", got)
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			b.push("a", "v2")
			synctest.Wait()
			if got := b.to.subjects(); got != "b:v1 "+want {
				t.Errorf("there: %t, told: %s, want %s", has, got, want)
			}
			if left := b.waiting(); left != "" {
				t.Errorf("left: %s", left)
			}
		})
	}
}

// Where nobody can say whether it was done, nothing is told, and nothing forgotten; and what
// comes behind it waits for a day, as behind all that is not told.
func TestDeletionInDoubt(t *testing.T) {
	in(t, func(t *testing.T) {
		b := newBox(t, records(), nil)
		before, _ := b.Deleted(t.Context(), change(t, "a", "v1"))
		b.write(before)
		b.Start(there{err: origin.ErrUnavailable})
		defer b.Close(t.Context())
		b.push("a", "v2")
		time.Sleep(24*time.Hour - time.Second)
		synctest.Wait()
		if got, left := b.to.subjects(), b.waiting(); got != "" || left != "events/queue/ci events/queue/ci" {
			t.Errorf("told: %s, left: %s", got, left)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if got, left := b.to.subjects(), b.waiting(); got != "a:v2" || left != "events/dead/ci" || b.counts.of("ci dead") != 1 {
			t.Errorf("told: %s, left: %s; %v", got, left, b.counts)
		}
		kept, err := b.Kept(t.Context(), true)
		if err != nil || len(kept) != 1 || !kept[0].Dead || kept[0].Tag != "v1" || kept[0].Reason != "it is not known whether it happened" {
			t.Errorf("%+v, %v", kept, err)
		}
	})
}

// What is damaged is there: it was not deleted, and holds up nothing.
func TestDeletionOfDamaged(t *testing.T) {
	in(t, func(t *testing.T) {
		b := newBox(t, records(), nil)
		before, _ := b.Deleted(t.Context(), change(t, "a", "v1"))
		b.write(before)
		b.Start(there{err: origin.Wrap(origin.ErrManifestUnknown, origin.ErrDamaged)})
		defer b.Close(t.Context())
		b.push("a", "v2")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got, left := b.to.subjects(), b.waiting(); got != "a:v2" || left != "" {
			t.Errorf("told: %s, left: %s", got, left)
		}
	})
}

// A receiver gets what it asked for, and what it is not told is not written.
func TestFilters(t *testing.T) {
	in(t, func(t *testing.T) {
		b := newBox(t, records(), func(_ *events.Options, r *events.Receiver) {
			r.Kinds = []events.Kind{events.Push, events.Pull}
			r.Repositories = func(repo origin.Repo) bool { return repo.First() == "team" }
		})
		b.Start(there{})
		defer b.Close(t.Context())
		for _, repo := range []string{"team/a", "other/a"} {
			b.push(repo, "v1")
			before, after := b.Deleted(t.Context(), change(t, repo, "v1"))
			if len(before.Writes)+len(after.Writes) != 0 {
				t.Errorf("a deletion in %s is written down", repo)
			}
			b.Pulled(t.Context(), change(t, repo, "v2"))
			c := change(t, repo, "v3")
			b.Filled(c.Repo, c.Descriptor)
		}
		if e := b.Pushed(t.Context(), change(t, "other/a", "v1")); len(e.Writes) != 0 || e.Written != nil {
			t.Errorf("written: %v", e.Writes)
		}
		synctest.Wait()
		if got := b.to.subjects(); got != "team/a:v1 team/a:v2" && got != "team/a:v2 team/a:v1" {
			t.Errorf("told: %s", got)
		}
	})
}

// A receiver that hangs is sent eight at a time, for ten seconds each; pulls that have
// no room are dropped and counted, and cost nobody time.
func TestHangs(t *testing.T) {
	in(t, func(t *testing.T) {
		b := newBox(t, records(), nil)
		b.to.hold = make(chan struct{})
		b.Start(there{})
		begun := time.Now()
		for i := range 2000 {
			b.Pulled(t.Context(), change(t, "a", fmt.Sprint(i)))
			if i == 0 {
				synctest.Wait()
			}
		}
		for i := range 20 {
			b.push(fmt.Sprint("r", i), "v1")
		}
		synctest.Wait()
		if time.Since(begun) != 0 {
			t.Errorf("pulls and pushes waited for %s", time.Since(begun))
		}
		if b.to.most != 16 {
			t.Errorf("%d at a time, want 8 that are written down and 8 that are not", b.to.most)
		}
		if n := b.counts.of("ci dropped"); n < 2000-1024-8 || n >= 2000 {
			t.Errorf("%d dropped", n)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if b.counts.of("ci failed") != 8 {
			t.Errorf("after ten seconds: %v", b.counts)
		}
		// What is on its way at the end is given the time that there is.
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		closing := time.Now()
		b.Close(ctx)
		if took := time.Since(closing); took != 3*time.Second {
			t.Errorf("closed after %s", took)
		}
		if got := strings.Count(b.waiting(), "events/queue/ci"); got != 20 {
			t.Errorf("%d of 20 pushes still wait", got)
		}
	})
}

// Of several processes one tells; when it is gone another does.
func TestLead(t *testing.T) {
	in(t, func(t *testing.T) {
		held := make(chan struct{}, 1)
		lost := make(chan struct{})
		lead := func(context.Context, string) (func(), <-chan struct{}, error) {
			select {
			case held <- struct{}{}:
				return func() { <-held }, lost, nil
			default:
				return nil, nil, errDown
			}
		}
		with := func(o *events.Options, _ *events.Receiver) { o.Lead = lead }
		kept := records()
		first, second := newBox(t, kept, with), newBox(t, kept, with)
		first.Start(there{})
		synctest.Wait()
		second.Start(there{})
		second.push("a", "1") // the first does not hear of it
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := first.to.subjects() + second.to.subjects(); got != "" {
			t.Errorf("told: %s", got)
		}
		first.Close(t.Context())
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := second.to.subjects(); got != "a:1" || len(first.to.all()) != 0 {
			t.Errorf("told: %s", got)
		}
		second.Close(t.Context())
	})
}

// heard are other processes' writes.
type heard struct {
	changed func([]string)
	missed  func()
}

func (h *heard) Subscribe(changed func([]string), missed func()) func() bool {
	h.changed, h.missed = changed, missed
	return func() bool { return true }
}

// What others write is told once it is heard of, or once it is known that something was
// missed.
func TestOthers(t *testing.T) {
	in(t, func(t *testing.T) {
		var h heard
		kept := records()
		b := newBox(t, kept, func(o *events.Options, _ *events.Receiver) { o.Others = &h })
		other := newBox(t, kept, nil)
		b.Start(there{})
		defer b.Close(t.Context())
		synctest.Wait()
		e := other.Pushed(t.Context(), change(t, "a", "1"))
		e.Written = nil
		other.write(e)
		synctest.Wait()
		if got := b.to.subjects(); got != "" {
			t.Errorf("told: %s", got)
		}
		h.changed([]string{"r/x", "events/queue/nobody/x", e.Writes[0].Key})
		synctest.Wait()
		if got := b.to.subjects(); got != "a:1" {
			t.Errorf("told: %s", got)
		}
		e = other.Pushed(t.Context(), change(t, "a", "2"))
		e.Written = nil
		other.write(e)
		h.missed()
		synctest.Wait()
		if got := b.to.subjects(); got != "a:1 a:2" {
			t.Errorf("told: %s", got)
		}
	})
}

// Receivers come and go; what waits for one that is gone is told when it is back.
func TestReceive(t *testing.T) {
	in(t, func(t *testing.T) {
		b := newBox(t, records(), nil)
		var down atomic.Bool
		down.Store(true)
		b.to.answer = func(told) (int, error) {
			if down.Load() {
				return 0, errDown
			}
			return 200, nil
		}
		b.Start(there{})
		defer b.Close(t.Context())
		b.push("a", "1")
		synctest.Wait()
		b.Receive(source, nil)
		synctest.Wait()
		if e := b.Pushed(t.Context(), change(t, "a", "2")); len(e.Writes) != 0 {
			t.Error("written for nobody")
		}
		down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := b.to.subjects(); got != "" {
			t.Errorf("told: %s", got)
		}
		b.Receive(source, []events.Receiver{b.config})
		b.push("a", "3")
		synctest.Wait()
		if got := b.to.subjects(); got != "a:1 a:3" {
			t.Errorf("told: %s", got)
		}
	})
}
