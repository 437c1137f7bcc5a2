package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/store/disk"
)

// A job is work on what a weir keeps, which a command asks for. What it is told, and what
// comes of it, is JSON. It may say how far it is, in lines for people, and give both a
// result and an error.
type job func(ctx context.Context, told json.RawMessage, say func(line string)) (result any, err error)

// jobs are the jobs by the names of their commands.
func (a *app) jobs() map[string]job {
	return map[string]job{
		"gc":     a.collect(),
		"retain": a.retain(),
		"scrub":  a.scrub(),
		"import": a.importFiles,
		"export": a.exportFiles,
	}
}

// outcome is what a command is told of a job: how far it is, or at last what came of it.
type outcome struct {
	Progress string          `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// do does a job.
func (j job) do(ctx context.Context, told json.RawMessage, say func(string)) outcome {
	var o outcome
	result, err := j(ctx, told, say)
	if result != nil {
		var failed error
		o.Result, failed = json.Marshal(result)
		err = errors.Join(err, failed)
	}
	if err != nil {
		o.Error = err.Error()
	}
	return o
}

// commands are those that a running server takes: over HTTP on a unix socket in the
// directory that it holds the lock of, which nobody but its owner can open. POST /gc does
// the job of that name; the body is what it is told, the answer its outcomes, the last of
// which has no progress. A command that goes away ends its job.
type commands struct {
	listener net.Listener // nil: there is no such directory
}

// commandDir gives the directory of the first store that openStore opens in one, where
// listenForCommands has its socket; "" where all is in buckets.
func commandDir(c config.Store) string {
	for _, place := range []config.Backend{c.Blobs, c.Metadata} {
		if place.S3.Bucket == "" {
			return place.Filesystem.Root
		}
	}
	return ""
}

// listenForCommands opens the socket in the first of the stores: see commandDir.
func listenForCommands(stores []*disk.Store) (*commands, error) {
	if len(stores) == 0 {
		return &commands{}, nil
	}
	l, err := stores[0].Listen()
	if err != nil {
		return nil, err
	}
	return &commands{l}, nil
}

// close gives up a socket that nothing was served on.
func (c *commands) close() error {
	if c.listener == nil {
		return nil
	}
	return c.listener.Close()
}

// maxTold is how much a job may be told, in bytes.
const maxTold = 1 << 20

// lastWords is how long a command may take to read how its job ended, when all end.
const lastWords = 5 * time.Second

// serve takes commands until ctx ends, and waits until the jobs have ended that it has
// begun. A command that is stopped reads nothing, and holds up nobody.
func (c *commands) serve(ctx context.Context, jobs map[string]job, log *slog.Logger) {
	if c.listener == nil {
		return
	}
	running := newUse()
	mux := http.NewServeMux()
	for name, j := range jobs {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			if !running.enter() {
				panic(http.ErrAbortHandler) // its connection is closed
			}
			defer running.leave()
			told, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTold))
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			log.Info("asked by command", "job", name)
			answer, out := json.NewEncoder(w), http.NewResponseController(w)
			tell := func(o outcome) error { return errors.Join(answer.Encode(o), out.Flush()) }
			// The request's context ends with the connection, and with ctx; so nobody need
			// look whether progress was told.
			end := j.do(r.Context(), told, func(line string) { _ = tell(outcome{Progress: line}) })
			if err := tell(end); err != nil {
				log.Warn("nobody waited for the end of a job", "job", name, "error", err)
			}
		})
	}
	s := &http.Server{
		Handler:     mux,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelError), // of a job that panicked
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(c.listener) }()
	var err error
	select {
	case <-ctx.Done():
		// Their jobs have been told to end.
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
		if s.Shutdown(limit) != nil {
			_ = s.Close() // whoever writes to them still is told
		}
		cancel()
		err = <-served
	case err = <-served:
	}
	if !errors.Is(err, http.ErrServerClosed) {
		log.Error("commands are not taken any more", "error", err)
	}
	running.end(context.WithoutCancel(ctx))
}
