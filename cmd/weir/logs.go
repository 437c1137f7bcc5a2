package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"github.com/weir-registry/weir/cmd/weir/config"
)

// logs makes the loggers of the rooms.
type logs struct {
	handler slog.Handler
	config  config.Log
	lines   *held
}

// newLogs writes to w as c says. The caller releases it.
func newLogs(w io.Writer, c config.Log) logs {
	lines := newHeld(w)
	// What is let through is decided per room.
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	file, ok := w.(*os.File)
	terminal := ok && term.IsTerminal(int(file.Fd()))
	if c.Format == config.FormatText || c.Format == config.FormatAuto && terminal {
		return logs{slog.NewTextHandler(lines, options), c, lines}
	}
	return logs{slog.NewJSONHandler(lines, options), c, lines}
}

// release writes what is held back, and from then on each line as it comes.
func (l logs) release() { _ = l.lines.release() } // of a log nobody can be told

// room gives the logger of a room.
func (l logs) room(name string) *slog.Logger {
	level, ok := l.config.Levels[name]
	if !ok {
		level = l.config.Level
	}
	return slog.New(leveled{l.handler, level.Level(), l.lines}).With("room", name)
}

// leveled lets through what is of level least or above. A warning waits for nobody,
// nor does what came before it.
type leveled struct {
	slog.Handler
	least slog.Level
	lines *held
}

func (h leveled) Enabled(_ context.Context, level slog.Level) bool { return level >= h.least }

func (h leveled) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		err = errors.Join(err, h.lines.flush())
	}
	return err
}

func (h leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return leveled{h.Handler.WithAttrs(attrs), h.least, h.lines}
}

func (h leveled) WithGroup(name string) slog.Handler {
	return leveled{h.Handler.WithGroup(name), h.least, h.lines}
}
