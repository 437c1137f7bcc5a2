package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/lifetime"
)

// lookInterval is how often it is looked whether a store lies in another directory by now.
const lookInterval = time.Second

// lives is an app, and those that come after it in this process: over the same, when the
// configuration is read again (see reload), or, when the directory of a store was taken
// away and is there again with the same store in it, over all that was made anew, as after
// a restart. Nobody's connection is closed for it.
type lives struct {
	logs    logs
	current atomic.Pointer[app]
	stop    context.CancelFunc // ends what goes on
	work    sync.WaitGroup

	from    configuration
	asked   <-chan os.Signal // to read it again
	watcher *watcher
	last    reading
	follow  func(config.Server) // is called when another configuration serves

	retiring context.Context // of apps that another one serves in the place of
	cut      context.CancelFunc
	life     *life // of the one that serves; nil before start

	mu       sync.Mutex
	commands *commands // in the store of that one
	draining bool
}

// newLives begins with an app, and with the socket where commands for it come in.
func newLives(logs logs, first *app, commands *commands) *lives {
	l := &lives{logs: logs, commands: commands, stop: func() {}, follow: func(config.Server) {}, watcher: newWatcher(logs.room("server"))}
	l.retiring, l.cut = context.WithCancel(context.Background())
	l.current.Store(first)
	return l
}

// enter gives the app that serves now, until leave.
func (l *lives) enter() (a *app, leave func()) {
	for {
		if a := l.current.Load(); a.use.enter() {
			return a, a.use.leave
		}
	}
}

// do does something with the app that serves now.
func (l *lives) do(what func(*app)) {
	a, leave := l.enter()
	defer leave()
	what(a)
}

// public and admin serve with what lives now.
func (l *lives) public() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.do(func(a *app) { a.public.ServeHTTP(w, r) })
	})
}

func (l *lives) admin() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.current.Load().admin.ServeHTTP(w, r) })
}

// secure has a server take TLS alone, if there is any: each client that connects is spoken
// to as is right then.
func (l *lives) secure(s *http.Server, c config.Server) {
	encrypt(s, l.current.Load().secured, c)
	if s.TLSConfig != nil {
		s.TLSConfig.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return l.current.Load().secured.Config().GetConfigForClient(hello)
		}
	}
}

// start begins what goes on behind those who ask, until drain.
func (l *lives) start(ctx context.Context) {
	ctx, l.stop = context.WithCancel(ctx)
	l.life = l.tend(ctx)
	l.first()
	l.work.Go(func() { l.watcher.run(ctx) })
	l.work.Go(func() {
		defer func() { l.life.end() }()
		ticker := time.NewTicker(lookInterval)
		defer ticker.Stop()
		said := ""
		for {
			select {
			case <-ticker.C:
			case <-l.asked:
				l.reload(true)
			case <-l.watcher.changed:
				l.reload(false)
			case <-ctx.Done():
				return
			}
			old := l.current.Load()
			if !old.replaced() {
				continue
			}
			next, err := l.next(old)
			if err != nil {
				if err.Error() != said { // not every second
					said = err.Error()
					l.logs.room("server").Error("where the store was is something else: it is left alone", "error", err)
				}
				continue
			}
			if said = ""; next == nil {
				return
			}
			l.life.end()
			l.life = l.tend(ctx)
			l.logs.room("server").Warn("the store is there again, in another directory: all begins anew over it")
			limit, cancel := context.WithTimeout(ctx, next.config.Server.Drain.Std())
			old.pages.Close()
			_ = old.close(limit) // nothing of it can be kept
			cancel()
		}
	})
}

// life is what is to be done from time to time over what is kept, and what commands ask
// for; for whichever app serves then.
type life struct {
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	rounds map[string]*round
}

// round is something that is done at intervals.
type round struct {
	interval time.Duration
	stop     context.CancelFunc
}

// tend begins the life over what the present app is over.
func (l *lives) tend(ctx context.Context) *life {
	x := &life{rounds: map[string]*round{}}
	x.ctx, x.cancel = context.WithCancel(ctx)
	a := l.current.Load()
	a.cache.Start()
	a.outbox.Start(a.origin)
	x.work.Go(func() {
		l.do(func(a *app) { a.sweep(x.ctx) })
		lifetime.Every(x.ctx, sweepInterval, func(ctx context.Context) { l.do(func(a *app) { a.sweep(ctx) }) })
	})
	x.work.Go(func() { a.keepPulls(x.ctx) })
	commands := l.commands
	x.work.Go(func() { commands.serve(x.ctx, l.jobs(), l.logs.room("server")) })
	l.schedule(x, a.config)
	l.work.Go(x.work.Wait)
	return x
}

// schedule has rounds made as c says. Those whose interval stays go on as they are, and
// what is being done is done.
func (l *lives) schedule(x *life, c *config.Config) {
	x.every("gc", c.Origin.GC.Interval.Std(), func() { l.do(func(a *app) { a.collectNow(x.ctx) }) })
	x.every("retention", c.Origin.Retention.Interval.Std(), func() { l.do(func(a *app) { a.retainNow(x.ctx) }) })
	x.every("scrub", c.Origin.Scrub.Interval.Std(), func() { l.do(func(a *app) { a.scrubNow(x.ctx) }) })
}

func (x *life) every(name string, interval time.Duration, do func()) {
	if old := x.rounds[name]; old != nil {
		if old.interval == interval {
			return
		}
		old.stop()
	}
	r := &round{interval: interval}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(x.ctx)
	x.rounds[name] = r
	x.work.Go(func() { lifetime.Every(ctx, interval, func(context.Context) { do() }) })
}

// end ends the life, and waits for the end of what it does.
func (x *life) end() {
	x.cancel()
	x.work.Wait()
}

// jobs are those of whichever app serves when they are asked for.
func (l *lives) jobs() map[string]job {
	jobs := map[string]job{}
	for name := range l.current.Load().jobs() {
		jobs[name] = func(ctx context.Context, told json.RawMessage, say func(string)) (any, error) {
			a, leave := l.enter()
			defer leave()
			return a.jobs()[name](ctx, told, say)
		}
	}
	return jobs
}

// next makes the app over all anew, after old; nil: it has come to its end meanwhile.
func (l *lives) next(old *app) (*app, error) {
	var ids []string
	for _, s := range old.stores {
		if !s.Replaced() {
			// It is held by old: both begin anew, or none.
			return nil, errors.New("only one of blobs and metadata was replaced")
		}
		ids = append(ids, s.ID())
	}
	next, err := composeOf(parts{open: (*kept).openStore, ids: ids}, old.config, l.logs)
	if err != nil {
		return nil, err
	}
	commands, err := listenForCommands(next.stores)
	if err != nil {
		return nil, errors.Join(err, next.close(context.Background())) // nothing has begun
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.draining {
		return nil, errors.Join(commands.close(), next.close(context.Background()))
	}
	l.current.Store(next)
	l.commands = commands
	return next, nil
}

// swap has next serve in the place of old, over the same. It reports whether it does:
// weir may have come to its end meanwhile. Errors: next cannot serve; old goes on.
func (l *lives) swap(old, next *app) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.draining {
		return false, next.release()
	}
	if err := next.configure(next); err != nil {
		return false, errors.Join(err, next.release())
	}
	l.current.Store(next)
	l.schedule(l.life, next.config)
	old.pages.Close() // who looks on asks the next one
	l.work.Go(func() { old.retire(l.retiring) })
	return true, nil
}

// replaced reports whether a store lies in another directory by now.
func (k *kept) replaced() bool {
	for _, s := range k.stores {
		if s.Replaced() {
			return true
		}
	}
	return false
}

// drain says that weir wants no more requests, and lets no life begin any more. It gives
// the app that is the last.
func (l *lives) drain() *app {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	a := l.current.Load()
	a.ready.draining.Store(true)
	a.pages.Close()
	l.stop()
	return a
}

// close ends the life that there is: see app.close.
func (l *lives) close(ctx context.Context) error {
	stop := context.AfterFunc(ctx, l.cut)
	defer stop()
	l.work.Wait()
	l.cut()
	return l.current.Load().close(ctx)
}
