package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/cmd/weir/config"
)

// front serves on the public listeners. A server's limits hold for as long as it lives, so
// another configuration that has others makes another server, which takes the connections
// that come from then on. Those that there are stay with the one that took them: the next
// answer on each says that it is the last, so that no request is lost.
type front struct {
	listeners []net.Listener
	handler   http.Handler
	secure    func(*http.Server, config.Server) // puts TLS before it, where there is any
	log       *slog.Logger
	failed    chan error // has why the first listener ended that nobody has closed

	now atomic.Pointer[server]

	changing sync.Mutex // held by follow
	ended    bool       // guarded by changing

	mu  sync.Mutex
	all []*server // that have connections, or take them
}

// server is one of those of a front.
type server struct {
	*http.Server
	limits   limits
	doors    []*door
	serving  sync.WaitGroup
	conns    atomic.Int64
	replaced atomic.Bool
}

// limits are what a server cannot change: those of its connections, and what is agreed
// upon when they begin.
type limits struct {
	timeouts   config.ServerTimeouts
	http2      bool
	clientCA   string
	clientAuth config.ClientAuth
}

func limitsOf(c config.Server) limits {
	return limits{c.Timeouts, c.HTTP2, c.TLS.ClientCA, c.TLS.ClientAuth}
}

// follow serves as c says from now on.
func (f *front) follow(c config.Server) {
	f.changing.Lock()
	defer f.changing.Unlock()
	if f.ended {
		return
	}
	old := f.now.Load()
	if old != nil && old.limits == limitsOf(c) {
		return
	}
	if old != nil {
		old.stop()
	}
	s := &server{limits: limitsOf(c)}
	s.Server = newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.replaced.Load() {
			w.Header().Set("Connection", "close")
		}
		f.handler.ServeHTTP(w, r)
	}), c, f.log)
	s.ConnState = func(_ net.Conn, state http.ConnState) { f.count(s, state) }
	f.secure(s.Server, c)
	f.mu.Lock()
	f.all = append(f.all, s)
	f.mu.Unlock()
	f.now.Store(s)
	var doors []net.Listener
	for _, l := range f.listeners {
		d := &door{Listener: l}
		s.doors, doors = append(s.doors, d), append(doors, d)
	}
	serveOn(&s.serving, s.Server, doors, f.failed)
	if old != nil && old.conns.Load() == 0 {
		f.forget(old)
	}
}

// count forgets a server that was replaced when its last connection has ended.
func (f *front) count(s *server, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		if s.conns.Add(-1) == 0 && s.replaced.Load() {
			f.forget(s)
		}
	}
}

func (f *front) forget(s *server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = slices.DeleteFunc(f.all, func(other *server) bool { return other == s })
}

// stop has a server take no connections any more. The listeners stay open: who connects
// now waits for the next one.
func (s *server) stop() {
	s.replaced.Store(true)
	for _, d := range s.doors {
		d.shut.Store(true)
		d.deadline(time.Now())
	}
	s.serving.Wait() // all say that their door is shut
	for _, d := range s.doors {
		d.deadline(time.Time{})
	}
}

// shutdown takes no more connections, and waits until what runs has ended; when ctx ends,
// that is cut, and the error is ctx's.
func (f *front) shutdown(ctx context.Context) error {
	f.changing.Lock()
	f.ended = true
	f.changing.Unlock()
	f.mu.Lock()
	all := slices.Clone(f.all)
	f.mu.Unlock()
	var ending errgroup.Group
	for _, s := range all {
		ending.Go(func() error {
			if err := s.Shutdown(ctx); err != nil {
				return errors.Join(err, s.Close())
			}
			return nil
		})
	}
	return ending.Wait()
}

// door is a listener that others listen on after it was shut.
type door struct {
	net.Listener
	shut atomic.Bool
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil && d.shut.Load() {
		return nil, http.ErrServerClosed
	}
	return c, err
}

// Close implements net.Listener. Of one that is shut it closes nothing.
func (d *door) Close() error {
	if d.shut.Load() {
		return nil
	}
	return d.Listener.Close()
}

// deadline wakes whoever waits in Accept. TCP and unix sockets have one.
func (d *door) deadline(t time.Time) {
	if l, ok := d.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = l.SetDeadline(t) // a closed one wakes, too
	}
}
