package fill

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// Replicas are the other groups over the same store.
type Replicas interface {
	// Lead makes this group the one that fetches what key names, until release is
	// called. release is nil where it is not: because the replica at leader is, or, if
	// that is "", because nobody can say who is.
	Lead(ctx context.Context, key Key) (release func(), leader string)
	// Await returns once the replica that fetches what key names does so no more, or nobody
	// can say that it does: Lead tells then. Errors: the latter, and those of ctx.
	Await(ctx context.Context, key Key) error
	// Follow asks the running fill of key at leader for n bytes from off on, as a Source.
	// Errors: whatever keeps it from it, also that no such fill runs there.
	Follow(ctx context.Context, leader string, key Key, off, n int64) (Stream, error)
}

const (
	// quiet is how long a leader may give no byte before its followers fetch themselves.
	quiet = 2 * time.Second
	// settled is how long a follower that has all leaves it to its leader to store it.
	settled = time.Minute
)

// errQuiet is the cause of the end of a stream that gave nothing for too long.
var errQuiet = errors.New("fill: no byte from the replica that fetches it")

// share is what a fill has of law 8: it gives the stream of the replica that fetches the
// same blob in the place of the upstream's.
type share struct {
	replicas Replicas
	key      Key
	own      Source

	mu      sync.Mutex
	release func() // not nil: this one leads
	leader  string // whom it follows; "": nobody
	asked   bool   // either is decided
	passed  string // the one that it follows no more
}

// newShare gives what there is to share of a fill; nil where nobody is there to share it
// with.
func (g *Group) newShare(f *Fill) *share {
	if g.opts.Replicas == nil {
		return nil
	}
	s := &share{replicas: g.opts.Replicas, key: f.key, own: f.src}
	f.src = s.source
	return s
}

// source implements Source.
func (s *share) source(ctx context.Context, off, n int64) (Stream, error) {
	for range 3 { // leaders, each of which had the blob when it was asked who leads
		leader := s.lead(ctx)
		if leader == "" {
			break
		}
		stream, err := s.follow(ctx, leader, off, n)
		if err == nil {
			return stream, nil
		}
		if ctx.Err() != nil {
			return Stream{}, context.Cause(ctx)
		}
		s.pass(leader)
	}
	return s.own(ctx, off, n)
}

// lead gives the replica to follow; "" where this one fetches for itself.
func (s *share) lead(ctx context.Context) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked {
		s.release, s.leader = s.replicas.Lead(ctx, s.key)
		if s.leader == s.passed {
			s.leader = ""
		}
		s.asked = true
	}
	return s.leader
}

// pass lets the fill follow that replica no more: whether it leads itself is asked again.
func (s *share) pass(leader string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader == leader {
		s.passed, s.leader, s.asked = leader, "", false
	}
}

// follow opens a stream of the leader's fill.
func (s *share) follow(ctx context.Context, leader string, off, n int64) (Stream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(quiet, func() { cancel(errQuiet) })
	stream, err := s.replicas.Follow(ctx, leader, s.key, off, n)
	if !timer.Stop() && err == nil {
		_ = stream.Close() // it came too late
		err = errQuiet
	}
	if err != nil {
		cancel(nil)
		return Stream{}, err
	}
	stream.ReadCloser = &led{ReadCloser: stream.ReadCloser, timer: timer, cancel: cancel, broke: func() { s.pass(leader) }}
	return stream, nil
}

// led is a leader's stream.
type led struct {
	io.ReadCloser
	timer  *time.Timer
	cancel context.CancelCauseFunc
	broke  func()
}

// Read implements io.Reader. Only while somebody reads does it matter that nothing comes.
func (l *led) Read(p []byte) (int, error) {
	l.timer.Reset(quiet)
	n, err := l.ReadCloser.Read(p)
	l.timer.Stop()
	if err != nil && err != io.EOF {
		l.broke()
	}
	return n, err
}

// Close implements io.Closer.
func (l *led) Close() error {
	l.timer.Stop()
	l.cancel(nil)
	return l.ReadCloser.Close()
}

// settle waits, with a blob that is whole, for the replica that fetches it too to have
// stored it or to be gone; the end of ctx ends it earlier. What is stored then is stored once.
func (s *share) settle(ctx context.Context) {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settled)
	defer cancel()
	for ctx.Err() == nil && !s.settledNow() {
		if s.replicas.Await(ctx, s.key) != nil {
			return
		}
	}
}

// settledNow reports whether nobody else is known to be about to store it.
func (s *share) settledNow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.release != nil {
		return true
	}
	var leader string
	s.release, leader = s.replicas.Lead(context.Background(), s.key)
	return s.release != nil || leader == ""
}

// end lets others lead.
func (s *share) end() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.release != nil {
		s.release()
		s.release = nil
	}
	s.asked, s.leader = true, "" // whoever reads on without a spool fetches for itself
}
