package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"
)

// A line is what slog's own handler makes of the record, byte for byte.
func FuzzJSONLines(f *testing.F) {
	f.Add("request", "path", "/v2/a/manifests/b", int64(200), 0.269, int64(1), 4, false)
	f.Add("", "", "", int64(-1), 0.0, int64(0), -8, true)
	f.Add("a \"b\"", "k\n", "é\x7f\u2028<&>\xff\\", int64(math.MinInt64), 1e21, int64(-62135596800), 0, true)
	f.Add("m", "time", "\x1b[31m", int64(7), 1e-7, int64(1e10), 12, false)
	f.Add("m", "k", "v", int64(7), math.Copysign(0, -1), int64(1), 1, false)
	f.Add("m", "k", "v", int64(7), math.Inf(1), int64(1), 1, false)
	f.Fuzz(func(t *testing.T, msg, key, s string, i int64, fl float64, at int64, level int, grouped bool) {
		r := slog.NewRecord(time.Unix(at%1e11, i%1e9).UTC(), slog.Level(level), msg, 0)
		r.AddAttrs(slog.String(key, s), slog.Int64("i", i), slog.Uint64("u", uint64(i)), slog.Float64("f", fl),
			slog.Bool("b", grouped), slog.Duration("d", time.Duration(i)))
		if grouped {
			r.AddAttrs(slog.Any("e", io.EOF), slog.Time("t", r.Time), slog.Group("g", "k", s))
		}
		var ours, theirs bytes.Buffer
		options := &slog.HandlerOptions{Level: slog.LevelDebug}
		for _, with := range []func(h slog.Handler) slog.Handler{
			func(h slog.Handler) slog.Handler { return h },
			func(h slog.Handler) slog.Handler {
				return h.WithAttrs([]slog.Attr{slog.String("room", "server"), slog.String(key, s)})
			},
			func(h slog.Handler) slog.Handler {
				return h.WithGroup("g").WithAttrs([]slog.Attr{slog.String(key, s)})
			},
		} {
			ours.Reset()
			theirs.Reset()
			want := with(slog.NewJSONHandler(&theirs, options)).Handle(context.Background(), r)
			got := with(newJSONLines(&ours)).Handle(context.Background(), r)
			if (got == nil) != (want == nil) || ours.String() != theirs.String() {
				t.Errorf("%q (%v), want %q (%v)", ours.String(), got, theirs.String(), want)
			}
		}
	})
}

// A line of the access log is none of those that are left to slog's handler.
func TestJSONLinesOfRequests(t *testing.T) {
	var b bytes.Buffer
	h := jsonLines{any: refusing{}, w: &b, plain: true}.WithAttrs([]slog.Attr{slog.String("room", "server")})
	slog.New(h).Info("request", "path", "/v2/a/manifests/b", "status", 200, "duration_ms", 0.269)
	const want = `"level":"INFO","msg":"request","room":"server","path":"/v2/a/manifests/b","status":200,"duration_ms":0.269}` + "\n"
	if !strings.HasSuffix(b.String(), want) {
		t.Errorf("%q", b.String())
	}
}

// refusing is a handler that makes nothing of any record.
type refusing struct{ slog.Handler }

func (refusing) Enabled(context.Context, slog.Level) bool  { return true }
func (h refusing) WithAttrs([]slog.Attr) slog.Handler      { return h }
func (refusing) Handle(context.Context, slog.Record) error { return io.ErrUnexpectedEOF }
