package lifetime_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
)

// A dry run says what the next one does, and does nothing.
func TestDryRun(t *testing.T) {
	each(t, func(r *rig) {
		t := r.t
		r.push("a", one, "x")
		r.push("b", two, "x")
		r.deleteManifest("a", one)
		lone := r.blob("a", []byte("lone"))
		r.age(long)
		fresh := r.blob("a", []byte("fresh"))
		dry, err := r.collect.Run(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		// The layer of both stays.
		const bytes = int64(len(`{"n":1}first layerlone`))
		if !dry.DryRun || dry.Freed != 3 || dry.FreedBytes != bytes || !r.stored(lone) || !r.head("a", fresh) {
			t.Errorf("dry run: %+v", dry)
		}
		text, err := json.Marshal(dry)
		want := `{"dry_run":true,"freed_bytes":22,"freed":3,"kept":[{"reason":"named by a manifest","count":3,"bytes":32},{"reason":"leased","count":1,"bytes":5}]}`
		if err != nil || string(text) != want {
			t.Errorf("%s, %v; want %s", text, err, want)
		}
		wet := r.gc()
		if r.options.Shared {
			if wet.Freed != 0 || wet.Kept[len(wet.Kept)-1].Reason != "condemned" || wet.Kept[len(wet.Kept)-1].Count != 3 {
				t.Errorf("first run: %+v", wet)
			}
			r.age(2 * time.Minute)
			wet = r.gc()
		}
		if wet.DryRun || wet.Freed != dry.Freed || wet.FreedBytes != dry.FreedBytes || r.stored(lone) {
			t.Errorf("%+v, and the dry run said %+v", wet, dry)
		}
	})
}

func TestReportText(t *testing.T) {
	var b strings.Builder
	err := lifetime.Report{Freed: 1200, FreedBytes: 5 << 30, Kept: []lifetime.Kept{{"named by a manifest", 3, 1536}, {"leased", 12, 7}}}.Text(&b)
	want := "freed 1200 blobs, 5.0 GiB\nkept  3   1.5 KiB  named by a manifest\nkept  12  7 B      leased\n"
	if err != nil || b.String() != want {
		t.Errorf("%q, %v; want %q", b.String(), err, want)
	}
}

// busy is a registry whose listing takes its time.
type busy struct {
	origin.Inventory
	began, end chan struct{}
}

func (b busy) Now(ctx context.Context) (time.Time, error) {
	b.began <- struct{}{}
	<-b.end
	return b.Inventory.Now(ctx)
}

// One collection runs at a time.
func TestOneAtATime(t *testing.T) {
	inMemory(t, func(r *rig) {
		b := busy{r.reg, make(chan struct{}), make(chan struct{})}
		c := lifetime.NewCollector(b, r.reg, lifetime.CollectOptions{Grace: grace})
		done := make(chan error)
		go func() {
			_, err := c.Run(r.t.Context(), false)
			done <- err
		}()
		<-b.began
		if _, err := c.Run(r.t.Context(), false); !errors.Is(err, lifetime.ErrRunning) {
			r.t.Errorf("a second one: %v", err)
		}
		close(b.end)
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

// A collection that is told to end does so, and says that it has not done all.
func TestInterrupted(t *testing.T) {
	each(t, func(r *rig) {
		lone := r.blob("a", []byte("lone"))
		r.age(long)
		ctx, cancel := context.WithCancel(r.t.Context())
		cancel()
		if _, err := r.collect.Run(ctx, false); !errors.Is(err, context.Canceled) {
			r.t.Errorf("interrupted: %v", err)
		}
		if !r.stored(lone) {
			r.t.Error("it went on")
		}
		r.full()
		if r.stored(lone) {
			r.t.Error("the next one does nothing")
		}
	})
}

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begun, n := time.Now(), 0
		lifetime.Every(ctx, time.Hour, func(context.Context) {
			n++
			if since := time.Since(begun); since < 54*time.Minute || since > 66*time.Minute {
				t.Errorf("after %v", since)
			}
			begun = time.Now()
			if n == 100 {
				cancel()
			}
		})
		if n != 100 {
			t.Errorf("%d times", n)
		}
		lifetime.Every(t.Context(), 0, func(context.Context) { t.Error("without an interval") })
	})
}
