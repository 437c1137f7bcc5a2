package s3_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/s3"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// lapsing gives locks that lapse while they are held: as many may hold a name as the test
// says.
type lapsing struct {
	token atomic.Uint64
	given atomic.Int64
	then  func(l *lease) // before a lock is given; nil: nothing
}

type lease struct {
	token uint64
	until time.Time
	lost  chan struct{}
}

func (l *lease) Token() uint64         { return l.token }
func (l *lease) Until() time.Time      { return l.until }
func (l *lease) Lost() <-chan struct{} { return l.lost }
func (l *lease) Unlock()               {}

func (l *lapsing) Lock(context.Context, string) (s3.Lock, error) {
	l.given.Add(1)
	got := &lease{l.token.Add(1), time.Now().Add(time.Hour), make(chan struct{})}
	if l.then != nil {
		l.then(got)
	}
	return got, nil
}

// paused lets a process stand still around its requests.
type paused struct {
	http.RoundTripper
	before, after func(*http.Request) // nil: it does not
}

func (p *paused) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.before != nil {
		p.before(r)
	}
	resp, err := p.RoundTripper.RoundTrip(r)
	if p.after != nil {
		p.after(r)
	}
	return resp, err
}

// fence is two processes over a bucket without conditions, of which the first one is paused
// while it holds a lock, and the second one writes meanwhile.
type fence struct {
	*testing.T
	locks *lapsing // of the one that is paused
	pause *paused
	one   store.Records // that of the one
	other store.Records
	first string // the version of what both have seen
	once  bool
}

func newFence(t *testing.T) *fence {
	server := s3test.Start(t)
	f := &fence{T: t, locks: &lapsing{}, pause: &paused{}}
	o := without(t, server, "PUT", "DELETE")
	o.Locker = f.locks
	f.other = open(t, o).Records()
	o.Locker = f.locks
	o.Around = func(next http.RoundTripper) http.RoundTripper {
		f.pause.RoundTripper = next
		return f.pause
	}
	f.one = open(t, o).Records()
	var err error
	if f.first, err = f.other.Put(t.Context(), "a", []byte("first"), store.Absent()); err != nil {
		t.Fatal(err)
	}
	f.locks.given.Store(0)
	return f
}

// meanwhile has the other one write; only once.
func (f *fence) meanwhile() {
	if f.once {
		return
	}
	f.once = true
	if _, err := f.other.Put(f.Context(), "a", []byte("newer"), store.Always()); err != nil {
		f.Error(err)
	}
}

func (f *fence) want(data string) {
	f.Helper()
	if got, err := f.other.Get(f.Context(), "a"); err != nil || string(got.Data) != data {
		f.Errorf("it is %q, %v; want %q", got.Data, err, data)
	}
}

// late are the changes of one who is paused.
func (f *fence) late() map[string]func() error {
	return map[string]func() error{
		"put": func() error {
			_, err := f.one.Put(f.Context(), "a", []byte("late"), store.Version(f.first))
			return err
		},
		"delete": func() error { return f.one.Delete(f.Context(), "a", store.Version(f.first)) },
	}
}

func isChange(r *http.Request) bool {
	return r.Method == http.MethodPut || r.Method == http.MethodDelete
}

// A holder is paused between its look at what is there and its write, until another one has
// the lock and has written: it does not write any more, but looks again.
func TestHolderIsPausedBeforeItWrites(t *testing.T) {
	for _, how := range []string{"put", "delete"} {
		t.Run(how, func(t *testing.T) {
			f := newFence(t)
			held := make(chan *lease, 10)
			f.locks.then = func(l *lease) { held <- l }
			f.pause.after = func(r *http.Request) {
				if r.Method == http.MethodGet && !f.once {
					l := <-held
					f.meanwhile()
					close(l.lost)
				}
			}
			if err := f.late()[how](); !errors.Is(err, store.ErrConflict) {
				t.Errorf("%v, want a conflict with what is newer", err)
			}
			f.want("newer")
		})
	}
}

// The same, where nobody has told it that the lock is lost, but the time is over.
func TestHolderIsLateBeforeItWrites(t *testing.T) {
	f := newFence(t)
	held := make(chan *lease, 10)
	f.locks.then = func(l *lease) { held <- l }
	f.pause.after = func(r *http.Request) {
		if r.Method == http.MethodGet && !f.once {
			l := <-held
			f.meanwhile()
			l.until = time.Now().Add(time.Second) // a request may be under way for longer
		}
	}
	if err := f.late()["put"](); !errors.Is(err, store.ErrConflict) {
		t.Errorf("%v, want a conflict with what is newer", err)
	}
	f.want("newer")
}

// A holder is paused in the middle of its request: that ends with the lock, and whether it
// was done is not known.
func TestHolderIsPausedWhileItWrites(t *testing.T) {
	for _, how := range []string{"put", "delete"} {
		t.Run(how, func(t *testing.T) {
			f := newFence(t)
			held := make(chan *lease, 10)
			f.locks.then = func(l *lease) { held <- l }
			f.pause.before = func(r *http.Request) {
				if isChange(r) && !f.once {
					l := <-held
					f.meanwhile()
					close(l.lost)
					<-r.Context().Done()
				}
			}
			if err := f.late()[how](); err == nil || errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), "not known") {
				t.Errorf("%v, want that it is not known", err)
			}
			f.want("newer")
		})
	}
}

// A holder is paused before it looks, and its clock with it: what is there was written
// under a later lock. It takes the lock again.
func TestHolderWithoutClockIsPaused(t *testing.T) {
	f := newFence(t)
	f.locks.then = func(*lease) { f.meanwhile() } // which gets the lock after this one
	if _, err := f.one.Put(t.Context(), "a", []byte("last"), store.Always()); err != nil {
		t.Error(err)
	}
	if n := f.locks.given.Load(); n != 3 {
		t.Errorf("%d locks, want one for the other and two for this", n)
	}
	f.want("last")
}

// Whoever gives tokens has begun anew, with a clock that is behind: everything can be
// written all the same.
func TestTokensBeginAnew(t *testing.T) {
	f := newFence(t)
	f.locks.token.Store(1 << 50)
	f.meanwhile()
	f.locks.token.Store(0)
	for _, data := range []string{"last", "very last"} {
		if _, err := f.one.Put(t.Context(), "a", []byte(data), store.Always()); err != nil {
			t.Error(err)
		}
		f.want(data)
	}
	if err := f.one.Delete(t.Context(), "a", store.Always()); err != nil {
		t.Error(err)
	}
}
