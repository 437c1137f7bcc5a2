package login_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
)

// service gives logins that live for a time.
type service struct {
	mu     sync.Mutex
	life   time.Duration // 0 = for ever
	err    error
	takes  time.Duration
	issued int
	asked  []time.Time
}

func (s *service) fetch(ctx context.Context) (login.Login, time.Time, error) {
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	takes := s.takes
	s.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return login.Login{}, time.Time{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return login.Login{}, time.Time{}, s.err
	}
	s.issued++
	l := login.Login{Username: fmt.Sprint("login ", s.issued), Password: egress.Conceal("canary")}
	if s.life == 0 {
		return l, time.Time{}, nil
	}
	return l, time.Now().Add(s.life), nil
}

func (s *service) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *service) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func get(t *testing.T, c *login.Cache, want int) login.Login {
	t.Helper()
	l, err := c.Login(t.Context())
	if err != nil || l.Username != fmt.Sprint("login ", want) {
		t.Errorf("%q, %v; want login %d", l.Username, err, want)
	}
	return l
}

func TestCacheFetchesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{life: 12 * time.Hour, takes: time.Second}
		c := login.NewCache(s.fetch)
		if s.count() != 0 {
			t.Error("fetched before it is needed")
		}
		// The first leaves, and the others have what it began.
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if _, err := c.Login(ctx); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}()
		synctest.Wait()
		cancel()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { get(t, c, 1) })
		}
		all.Wait()
		if s.count() != 1 {
			t.Errorf("%d fetches", s.count())
		}
	})
}

func TestCacheRenewsBeforeItLapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{life: 12 * time.Hour}
		c := login.NewCache(s.fetch)
		get(t, c, 1)
		time.Sleep(12*time.Hour - 15*time.Minute - 1)
		get(t, c, 1)
		// While the service is away the old one goes on until it lapses.
		s.set(func() { s.err = errors.New("away") })
		time.Sleep(time.Nanosecond)
		for range 14 {
			get(t, c, 1)
			get(t, c, 1)
			time.Sleep(time.Minute)
		}
		if n := s.count(); n != 15 {
			t.Errorf("%d fetches", n)
		}
		time.Sleep(time.Minute)
		if _, err := c.Login(t.Context()); !errors.Is(err, login.ErrService) {
			t.Error(err)
		}
		s.set(func() { s.err = nil })
		if _, err := c.Login(t.Context()); !errors.Is(err, login.ErrService) {
			t.Errorf("%v within a second of the last fetch", err)
		}
		time.Sleep(time.Second)
		get(t, c, 2)
	})
}

// However often a registry refuses what it is shown, the service is not flooded.
func TestCacheIsNotDrivenByRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{life: 12 * time.Hour}
		c := login.NewCache(s.fetch)
		begun := time.Now()
		for time.Since(begun) < 10*time.Minute {
			var all sync.WaitGroup
			for range 5 {
				all.Go(func() {
					l, err := c.Login(t.Context())
					if err != nil {
						t.Error(err)
					}
					c.Drop(l)
				})
			}
			all.Wait()
			time.Sleep(50 * time.Millisecond)
		}
		for i, at := range s.asked[1:] {
			if gap, least := at.Sub(s.asked[i]), min(time.Second<<i, time.Minute); gap < least || gap > least+100*time.Millisecond {
				t.Errorf("fetch %d came %s after the last", i+1, gap)
			}
		}
		if n := s.count(); n > 17 {
			t.Errorf("%d fetches in ten minutes", n)
		}
		// One that was good for long is replaced at once.
		l, err := c.Login(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		c.Drop(l)
		before := s.count()
		next, err := c.Login(t.Context())
		if err != nil || next == l || s.count() != before+1 {
			t.Errorf("%v, %d fetches", err, s.count()-before)
		}
		c.Drop(l) // it is not there any more: nothing is dropped
		if again, err := c.Login(t.Context()); err != nil || again != next {
			t.Errorf("another one, %v", err)
		}
	})
}

// A login of which nobody knows when it lapses is kept until it is refused.
func TestCacheKeepsWhatDoesNotLapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		c := login.NewCache(s.fetch)
		l := get(t, c, 1)
		time.Sleep(1000 * time.Hour)
		get(t, c, 1)
		c.Drop(l)
		get(t, c, 2)
	})
}

// A service that hangs is an outage that says so, and not the end of the caller's
// own time.
func TestCacheIsPatientOnlySoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{takes: time.Hour}
		c := login.NewCache(s.fetch)
		begun := time.Now()
		_, err := c.Login(t.Context())
		if !errors.Is(err, login.ErrService) || !errors.Is(err, os.ErrDeadlineExceeded) ||
			errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 30*time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		s.set(func() { s.takes, s.err = 0, context.Canceled })
		time.Sleep(time.Second)
		if _, err := c.Login(t.Context()); !errors.Is(err, login.ErrService) || errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestLoginsDoNotShow(t *testing.T) {
	l := login.Login{Username: "u", Password: egress.Conceal("canary"), Identity: egress.Conceal("canary")}
	s := login.Static("u", func() (string, error) { return "canary", nil })
	c := login.NewCache(func(context.Context) (login.Login, time.Time, error) { return l, time.Time{}, nil })
	if _, err := c.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, v := range []any{l, &l, s, c} {
			if said := fmt.Sprintf(verb, v); strings.Contains(said, "canary") {
				t.Errorf("%s: %s", verb, said)
			}
		}
	}
}

func TestStatic(t *testing.T) {
	password, err := "one", error(nil)
	p := login.Static("u", func() (string, error) { return password, err })
	first, lerr := p.Login(t.Context())
	if lerr != nil || first.Username != "u" || first.Password.Reveal() != "one" {
		t.Errorf("%+v, %v", first, lerr)
	}
	p.Drop(first)
	password = "two"
	if l, _ := p.Login(t.Context()); l.Password.Reveal() != "two" {
		t.Error("the old password")
	}
	if err = os.ErrNotExist; true {
		if _, lerr := p.Login(t.Context()); !errors.Is(lerr, os.ErrNotExist) {
			t.Error(lerr)
		}
	}
}
