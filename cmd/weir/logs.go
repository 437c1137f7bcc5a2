package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync/atomic"

	"golang.org/x/term"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/observe"
)

// logs makes the loggers of the rooms. What configure changes holds for those too that
// were made before.
type logs struct {
	handler  formatted
	text     *atomic.Bool
	terminal bool
	levels   map[string]*slog.LevelVar // by room
	lines    *held
}

// newLogs writes to w as c says. The caller releases it.
func newLogs(w io.Writer, c config.Log) logs {
	lines := newHeld(w)
	file, ok := w.(*os.File)
	l := logs{text: &atomic.Bool{}, terminal: ok && term.IsTerminal(int(file.Fd())), levels: map[string]*slog.LevelVar{}, lines: lines}
	// What is let through is decided per room.
	text := slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelDebug})
	l.handler = formatted{text, newJSONLines(lines), l.text}
	for _, name := range config.Rooms() {
		l.levels[name] = &slog.LevelVar{}
	}
	l.configure(c)
	return l
}

// configure has lines be written as c says from now on.
func (l logs) configure(c config.Log) {
	l.text.Store(c.Format == config.FormatText || c.Format == config.FormatAuto && l.terminal)
	for name, least := range l.levels {
		level, ok := c.Levels[name]
		if !ok {
			level = c.Level
		}
		least.Set(level.Level())
	}
}

// release writes what is held back, and from then on each line as it comes.
func (l logs) release() { _ = l.lines.release() } // of a log nobody can be told

// room gives the logger of a room, which is one of config.Rooms.
func (l logs) room(name string) *slog.Logger {
	return slog.New(leveled{l.handler, l.levels[name], l.lines}).With("room", name)
}

// formatted writes text or JSON, as is said at the time.
type formatted struct {
	text, json slog.Handler
	asText     *atomic.Bool
}

func (h formatted) now() slog.Handler {
	if h.asText.Load() {
		return h.text
	}
	return h.json
}

func (h formatted) Handle(ctx context.Context, r slog.Record) error { return h.now().Handle(ctx, r) }

func (h formatted) HandleLine(ctx context.Context, l observe.Line) error {
	if h, ok := h.now().(observe.LineHandler); ok {
		return h.HandleLine(ctx, l)
	}
	return h.now().Handle(ctx, l.Record())
}

func (h formatted) with(with func(slog.Handler) slog.Handler) formatted {
	return formatted{with(h.text), with(h.json), h.asText}
}

// leveled lets through what is of level least or above. A warning waits for nobody,
// nor does what came before it.
type leveled struct {
	formatted
	least slog.Leveler
	lines *held
}

var _ observe.LineHandler = leveled{}

func (h leveled) Enabled(_ context.Context, level slog.Level) bool { return level >= h.least.Level() }

func (h leveled) Handle(ctx context.Context, r slog.Record) error {
	return h.written(r.Level, h.formatted.Handle(ctx, r))
}

func (h leveled) HandleLine(ctx context.Context, l observe.Line) error {
	return h.written(l.Level, h.formatted.HandleLine(ctx, l))
}

func (h leveled) written(level slog.Level, err error) error {
	if level >= slog.LevelWarn {
		err = errors.Join(err, h.lines.flush())
	}
	return err
}

func (h leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return leveled{h.with(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) }), h.least, h.lines}
}

func (h leveled) WithGroup(name string) slog.Handler {
	return leveled{h.with(func(h slog.Handler) slog.Handler { return h.WithGroup(name) }), h.least, h.lines}
}
