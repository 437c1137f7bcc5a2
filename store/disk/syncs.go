package disk

import "sync"

// syncs makes directories durable. Who comes while a directory is being synced
// waits for the next time, together with all who come meanwhile: what they did to
// it is older than the sync that they share. All of them have its error; none of
// them tries again.
type syncs struct {
	fs FS

	mu      sync.Mutex
	running map[string]*turn // by directory; the turn after the one that runs, or nil
}

// turn is a sync that waits for the one before it.
type turn struct {
	begin chan struct{} // closed for the first of those who wait: it is theirs to do
	end   chan struct{} // closed for the others
	err   error
}

func newSyncs(fs FS) *syncs { return &syncs{fs: fs, running: make(map[string]*turn)} }

// sync makes durable which names dir has, as they are when it is called.
func (s *syncs) sync(dir string) error {
	s.mu.Lock()
	t, busy := s.running[dir]
	if !busy {
		s.running[dir] = nil
		s.mu.Unlock()
		return s.run(dir)
	}
	if t != nil {
		s.mu.Unlock()
		<-t.end
		return t.err
	}
	t = &turn{begin: make(chan struct{}), end: make(chan struct{})}
	s.running[dir] = t
	s.mu.Unlock()
	<-t.begin
	t.err = s.run(dir)
	close(t.end)
	return t.err
}

// run syncs and lets the next turn begin.
func (s *syncs) run(dir string) error {
	err := s.fs.Sync(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if next := s.running[dir]; next != nil {
		s.running[dir] = nil
		close(next.begin)
	} else {
		delete(s.running, dir)
	}
	return err
}
