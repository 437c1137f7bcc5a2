package disk

import (
	"errors"
	"testing"
	"testing/synctest"
)

// gatedFS is an FS whose syncs wait to be let go, with an error or without.
type gatedFS struct {
	FS
	asked []string
	gate  chan error
}

func (g *gatedFS) Sync(name string) error {
	g.asked = append(g.asked, name)
	return <-g.gate
}

// Who comes while a directory is synced shares the next sync, and its error; the
// one that runs has begun before what they did, and says nothing of it.
func TestSyncsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &gatedFS{gate: make(chan error)}
		s := newSyncs(fs)
		const late = 5
		first, others, elsewhere := make(chan error, 1), make(chan error, late), make(chan error, 1)
		go func() { first <- s.sync("a") }()
		synctest.Wait()
		for range late {
			go func() { others <- s.sync("a") }()
		}
		synctest.Wait()
		if len(fs.asked) != 1 {
			t.Fatalf("%q are synced at once, want one", fs.asked)
		}
		fs.gate <- nil
		if err := <-first; err != nil {
			t.Errorf("the first sync: %v", err)
		}
		synctest.Wait()
		if len(fs.asked) != 2 || len(others) != 0 {
			t.Fatalf("%q are synced, and %d do not wait for it", fs.asked, len(others))
		}
		go func() { first <- s.sync("a") }() // behind the second: a third
		go func() { elsewhere <- s.sync("b") }()
		synctest.Wait()
		if len(fs.asked) != 3 || fs.asked[2] != "b" {
			t.Fatalf("%q are synced: another directory does not wait", fs.asked)
		}
		broken := errors.New("broken")
		for range 2 {
			fs.gate <- broken
		}
		for range late {
			if err := <-others; !errors.Is(err, broken) {
				t.Errorf("a sync that failed: %v", err)
			}
		}
		if err := <-elsewhere; !errors.Is(err, broken) {
			t.Errorf("a sync that failed: %v", err)
		}
		fs.gate <- nil
		if err := <-first; err != nil {
			t.Errorf("the third sync: %v", err)
		}
		if len(fs.asked) != 4 || len(s.running) != 0 {
			t.Errorf("%d syncs, %d directories remembered", len(fs.asked), len(s.running))
		}
	})
}
