package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/serve"
)

// sweepInterval is how often what is left of downloads is looked through.
const sweepInterval = time.Hour

// beginning is how long after the start what that alone needed is given back: by then what begins
// behind it has begun.
const beginning = 500 * time.Millisecond

// runServer runs what c composes until ctx ends or a SIGTERM or SIGINT comes, then
// drains: running requests and fills end first, for at most server.drain. A second
// signal ends it at once. A listener that fails has it drain, too, and is its error. A SIGHUP, or a change of a file, has c be read again from where
// it was read. Logs go to stderr.
func runServer(ctx context.Context, c *config.Config, from configuration, stderr io.Writer) error {
	logs := newLogs(stderr, c.Log)
	defer logs.release()
	log := logs.room("server")
	for _, w := range c.Warnings() {
		log.Warn(w)
	}
	// From here on a signal is ours: one that comes while we start is not lost.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	defer signal.Stop(asked)

	app, err := compose(c, logs)
	if err != nil {
		return err
	}
	public, err := listen(c.Server.Listen)
	if err != nil {
		return errors.Join(err, app.close(ctx))
	}
	var private []net.Listener
	if !c.Admin.Listen.IsZero() {
		if private, err = listen(config.Addresses{c.Admin.Listen}); err != nil {
			return errors.Join(err, closeAll(public), app.close(ctx))
		}
	}
	commands, err := listenForCommands(app.stores)
	if err != nil {
		return errors.Join(err, closeAll(public), closeAll(private), app.close(ctx))
	}
	// The admin side outlives the public one: a drain is watched there.
	running := newLives(logs, app, commands)
	running.from, running.asked = from, asked
	adminServer := newServer(running.admin(), c.Server, log)
	// The first listener that fails is the reason of the end.
	failed := make(chan error, 1)
	serveOn(new(sync.WaitGroup), adminServer, private, failed)
	entrance := &front{listeners: public, handler: running.public(), secure: running.secure, log: log, failed: failed}
	entrance.follow(c.Server)
	running.follow = entrance.follow
	for _, l := range public {
		log.Info("listening", "address", l.Addr().String(), "tls", app.secured != nil, "version", version)
	}
	for _, l := range private {
		log.Info("admin listening", "address", l.Addr().String())
	}
	// What there is is listed when nobody waits for it any more.
	running.start(context.WithoutCancel(ctx))
	app.announce(logs)
	begun := time.AfterFunc(beginning, func() {
		debug.FreeOSMemory()
		if err := forgetStart(); err != nil {
			log.Debug("pages that only the start has touched stay mapped", "error", err)
		}
		collectSeldom()
	})
	defer begun.Stop()

	select {
	case <-ctx.Done():
	case err = <-failed:
		log.Error("a listener has failed", "error", err)
	}
	logs.release() // nothing is lost by what comes next
	stop()         // the next signal has its default effect: the end
	last := running.drain().config.Server.Drain
	log.Info("draining", "limit", last.String())
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), last.Std())
	defer cancel()
	if entrance.shutdown(limit) != nil {
		log.Warn("requests were cut: they did not end in time")
	}
	if cut := running.close(limit); cut != nil {
		log.Warn("downloads were cut: they did not end in time")
	}
	err = errors.Join(err, adminServer.Close())
	log.Info("stopped")
	return err
}

// newServer makes a server whose limits are those of c. Bodies have none of these:
// whoever moves them renews the deadline as long as bytes move.
func newServer(h http.Handler, c config.Server, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ConnContext:       serve.ConnContext,
		ReadHeaderTimeout: c.Timeouts.Header.Std(),
		IdleTimeout:       c.Timeouts.Idle.Std(),
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// serveOn serves on all of the listeners, and says to failed when one ends by itself. It is
// called once for a server: where there is no TLS, net/http makes a configuration of it as
// soon as one listener is served.
func serveOn(running *sync.WaitGroup, s *http.Server, listeners []net.Listener, failed chan<- error) {
	serve := s.Serve
	if s.TLSConfig != nil {
		serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
	}
	for _, l := range listeners {
		running.Go(func() {
			if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
				select {
				case failed <- fmt.Errorf("serve %s: %w", l.Addr(), err):
				default: // another one has
				}
			}
		})
	}
}

// listen opens all addresses, or none.
func listen(addresses config.Addresses) ([]net.Listener, error) {
	var open []net.Listener
	for _, a := range addresses {
		l, err := listenOn(a)
		if err != nil {
			return nil, errors.Join(err, closeAll(open))
		}
		open = append(open, l)
	}
	return open, nil
}

func listenOn(a config.Address) (net.Listener, error) {
	if a.Network == "unix" {
		// A socket that an earlier process left would be in the way; one that is
		// still answered is not ours to take.
		if conn, err := net.Dial("unix", a.Addr); err == nil {
			return nil, errors.Join(fmt.Errorf("listen on %s: in use", a), conn.Close())
		}
		if info, err := os.Lstat(a.Addr); err == nil && info.Mode().Type() == fs.ModeSocket {
			if err := os.Remove(a.Addr); err != nil {
				return nil, fmt.Errorf("listen on %s: %w", a, err)
			}
		}
	}
	l, err := net.Listen(a.Network, a.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", a, err)
	}
	if a.Network == "unix" && !strings.HasPrefix(a.Addr, "@") { // that one is no file
		// For a proxy in the group of who runs weir, whatever the umask; for nobody else.
		if err := os.Chmod(a.Addr, 0o660); err != nil {
			return nil, errors.Join(fmt.Errorf("listen on %s: %w", a, err), l.Close())
		}
	}
	return l, nil
}

func closeAll(listeners []net.Listener) error {
	var err error
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	return err
}
