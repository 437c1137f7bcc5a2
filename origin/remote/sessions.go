package remote

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"github.com/weir-registry/weir/origin"
)

const (
	// maxSessions is how many uploads are open at a time; the one that nobody wrote to
	// for longest makes room.
	maxSessions = 4096
	// maxIdle is how long nobody may write to an upload.
	maxIdle = 24 * time.Hour
)

// sessions are the uploads that are open, by the ids that clients know. Each belongs to
// whoever began it: to others it is unknown.
type sessions struct {
	mu   sync.Mutex
	byID map[string]*session
}

// session is an upload, and whether somebody holds it.
type session struct {
	*upload
	who  string
	held bool
	lull *time.Timer // until what is being sent ends
}

func newSessions() *sessions { return &sessions{byID: map[string]*session{}} }

// add gives an upload of who its id, and holds it for the caller. It gives those that
// have to go for it.
func (s *sessions) add(u *upload, who string) (old []*upload) {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	u.id, u.moved = hex.EncodeToString(id), time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var idlest *session
	for _, x := range s.byID {
		switch {
		case x.held:
		case time.Since(x.moved) > maxIdle:
			old = append(old, s.take(x))
		case idlest == nil || x.moved.Before(idlest.moved):
			idlest = x
		}
	}
	if len(s.byID) >= maxSessions && idlest != nil {
		old = append(old, s.take(idlest))
	}
	s.byID[u.id] = &session{upload: u, who: who, held: true}
	return old
}

// take takes a session out. s.mu is held.
func (s *sessions) take(x *session) *upload {
	delete(s.byID, x.id)
	if x.lull != nil {
		x.lull.Stop()
	}
	return x.upload
}

// hold gives an upload into the hands of who. Errors: ErrUploadUnknown,
// ErrUploadInvalid (in use).
func (s *sessions) hold(id string, repo origin.Repo, who string) (*upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.byID[id]
	switch {
	case x == nil || x.repo != repo || x.who != who:
		return nil, origin.ErrUploadUnknown
	case x.held:
		return nil, origin.Errorf(origin.ErrUploadInvalid, "upload is in use by another request")
	}
	x.held = true
	if x.lull != nil {
		x.lull.Stop()
		x.lull = nil
	}
	return x.upload, nil
}

// release takes an upload back. What it sends is ended if nobody comes for it.
func (s *sessions) release(u *upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.byID[u.id]
	if x == nil {
		return
	}
	x.held, x.moved = false, time.Now()
	if x.stream == nil {
		return
	}
	// The timer has an effect only if nobody came since: hold and it agree under s.mu
	// on who was first.
	var timer *time.Timer
	timer = time.AfterFunc(lull, func() {
		s.mu.Lock()
		mine := x.lull == timer && !x.held
		x.held = x.held || mine
		s.mu.Unlock()
		if !mine {
			return
		}
		if err := x.finish(context.Background()); err != nil {
			s.remove(u)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		x.held, x.lull = false, nil
	})
	x.lull = timer
}

// remove forgets an upload.
func (s *sessions) remove(u *upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.byID[u.id]; x != nil {
		s.take(x)
	}
}

// close ends the uploads that nobody holds.
func (s *sessions) close() {
	s.mu.Lock()
	var old []*upload
	for _, x := range s.byID {
		if !x.held {
			old = append(old, s.take(x))
		}
	}
	s.mu.Unlock()
	for _, u := range old {
		if u.stream != nil {
			u.stream.cut()
			u.stream = nil
		}
	}
}
