package fill

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/store"
)

// Other limits hold for what begins, and cut nothing that runs: a second fill that had to
// wait need not, and with another linger nobody's leaving ends what others read.
func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Concurrency: 1}})
		slow := newUpstream(content(2 * mib))
		slow.pause = time.Second
		first, err := r.follow(t.Context(), slow, store.Range{})
		if err != nil {
			t.Fatal(err)
		}
		r.Configure(Limits{Linger: 10 * time.Second, Concurrency: 2})
		other := newUpstream(content(2*mib + 1))
		other.pause = time.Second
		begin := time.Now()
		second, err := r.follow(t.Context(), other, store.Range{})
		if err != nil || time.Since(begin) > 2*time.Second {
			t.Fatalf("the second: %v, after %v", err, time.Since(begin))
		}
		_ = second.Body.Close()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if running := r.Running(); len(running) != 1 || running[0].Key != key(slow.data) {
			t.Errorf("after the linger there run %v", running)
		}
		if n, err := io.Copy(io.Discard, first.Body); err != nil || n != 2*mib {
			t.Errorf("the first: %d bytes, %v", n, err)
		}
		_ = first.Body.Close()
		r.done(slow)
	})
}

// Other limits, while somebody waits for a turn by those before: what is fetched ahead has
// one by the new ones at once.
func TestConfigureWhileOneWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{Linger: Complete, Concurrency: 1}})
		slow := newUpstream(content(2 * mib)).known()
		slow.pause = 100 * time.Millisecond // 3.2 s
		first, err := r.follow(t.Context(), slow, store.Range{})
		must(t, err)
		waits := newUpstream(content(2*mib + 1)).known()
		second, _, err := r.Join(t.Context(), key(waits.data), waits.told, waits.source, r.keep)
		must(t, err)
		synctest.Wait()
		r.Configure(Limits{Linger: Complete, Concurrency: 2})
		begin, ahead := time.Now(), newUpstream(content(2*mib+2)).known()
		if err := <-r.begin(t.Context(), ahead); err != nil || time.Since(begin) != 0 || len(waits.asks()) != 0 {
			t.Errorf("ahead: %v, after %v; who waits has asked %v", err, time.Since(begin), waits.asks())
		}
		second.Leave()
		if n, err := io.Copy(io.Discard, first.Body); err != nil || n != 2*mib {
			t.Errorf("the first: %d bytes, %v", n, err)
		}
		must(t, first.Body.Close())
		r.done(slow, waits, ahead)
	})
}
