package main

import (
	"context"
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
}

// newLogs writes to w as c says.
func newLogs(w io.Writer, c config.Log) logs {
	// What is let through is decided per room.
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	file, ok := w.(*os.File)
	terminal := ok && term.IsTerminal(int(file.Fd()))
	if c.Format == config.FormatText || c.Format == config.FormatAuto && terminal {
		return logs{slog.NewTextHandler(w, options), c}
	}
	return logs{slog.NewJSONHandler(w, options), c}
}

// room gives the logger of a room.
func (l logs) room(name string) *slog.Logger {
	level, ok := l.config.Levels[name]
	if !ok {
		level = l.config.Level
	}
	return slog.New(leveled{l.handler, level.Level()}).With("room", name)
}

// leveled lets through what is of level least or above.
type leveled struct {
	slog.Handler
	least slog.Level
}

func (h leveled) Enabled(_ context.Context, level slog.Level) bool { return level >= h.least }

func (h leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return leveled{h.Handler.WithAttrs(attrs), h.least}
}

func (h leveled) WithGroup(name string) slog.Handler {
	return leveled{h.Handler.WithGroup(name), h.least}
}
