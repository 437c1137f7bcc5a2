package disk

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// gated is a file system whose logs are synced one by one, as the test wants it.
type gated struct {
	FS
	gate  chan struct{} // one is taken by each sync
	syncs int
}

func (g *gated) Create(name string) (File, error) {
	f, err := g.FS.Create(name)
	if err == nil && strings.HasPrefix(name, logDir+"/") {
		f = gatedFile{f, g}
	}
	return f, err
}

type gatedFile struct {
	File
	g *gated
}

func (f gatedFile) Sync() error {
	<-f.g.gate
	f.g.syncs++
	return f.File.Sync()
}

// Who comes while the log is synced shares the next sync: 100 writers make two.
func TestWritersShareASync(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		g := &gated{gate: make(chan struct{})}
		s, err := Open(dir, Options{FS: func(inner FS) FS {
			g.FS = inner
			return g
		}})
		if err != nil {
			t.Fatal(err)
		}
		const writers = 100
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() {
				seen, err := s.records.log.append(entry{key: fmt.Sprint(i), file: []byte("x")})
				if err != nil {
					t.Error(err)
					return
				}
				seen()
			})
			if i == 0 {
				synctest.Wait() // for the first one's sync
			}
		}
		synctest.Wait()
		if g.syncs != 0 {
			t.Errorf("%d syncs, and nobody let one through", g.syncs)
		}
		g.gate <- struct{}{}
		synctest.Wait()
		g.gate <- struct{}{}
		all.Wait()
		if g.syncs != 2 {
			t.Errorf("%d writers make %d syncs, want 2", writers, g.syncs)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
