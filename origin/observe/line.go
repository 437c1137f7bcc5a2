package observe

import (
	"context"
	"log/slog"
	"time"
)

// Line is what the access log says of a request.
type Line struct {
	Time                time.Time
	Level               slog.Level
	Message             string
	Method, Route, Path string
	Status              int
	Took                time.Duration // said in milliseconds, to the microsecond
	Bytes               int64
	Identity, TraceID   string
}

// LineHandler is a handler that takes such a line as it is, and writes what it would of its
// Record: to make one, and to look into it again, takes longer than to write it.
type LineHandler interface {
	slog.Handler
	HandleLine(context.Context, Line) error
}

// Record gives the line as every handler takes it, without the program counter that a
// Logger looks for: nobody writes that.
func (l Line) Record() slog.Record {
	r := slog.NewRecord(l.Time, l.Level, l.Message, 0)
	r.AddAttrs(
		slog.String("method", l.Method),
		slog.String("route", l.Route),
		slog.String("path", l.Path),
		slog.Int("status", l.Status),
		slog.Float64("duration_ms", float64(l.Took.Microseconds())/1000),
		slog.Int64("bytes", l.Bytes),
		slog.String("identity", l.Identity),
		slog.String("trace_id", l.TraceID))
	return r
}

// write hands the line to a handler. It does not ask again whether that is enabled.
func (l Line) write(ctx context.Context, h slog.Handler) error {
	if h, ok := h.(LineHandler); ok {
		return h.HandleLine(ctx, l)
	}
	return h.Handle(ctx, l.Record())
}
