package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/observe"
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
		line := observe.Line{
			Time: r.Time, Level: r.Level, Message: msg, Method: key, Route: s, Path: key + s,
			Status: int(i), Took: time.Duration(i), Bytes: i, Identity: s + key, TraceID: key,
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
			we, they := with(newJSONLines(&ours)), with(slog.NewJSONHandler(&theirs, options))
			compare := func(got, want error) {
				t.Helper()
				if (got == nil) != (want == nil) || ours.String() != theirs.String() {
					t.Errorf("%q (%v), want %q (%v)", ours.String(), got, theirs.String(), want)
				}
				ours.Reset()
				theirs.Reset()
			}
			compare(we.Handle(context.Background(), r), they.Handle(context.Background(), r))
			if we, ok := we.(observe.LineHandler); ok {
				compare(we.HandleLine(context.Background(), line), they.Handle(context.Background(), line.Record()))
			}
		}
	})
}

// A line of the access log is none of those that are left to slog's handler.
func TestJSONLinesOfRequests(t *testing.T) {
	var b bytes.Buffer
	h := jsonLines{any: refusing{}, w: &b, plain: true}.WithAttrs([]slog.Attr{slog.String("room", "server")})
	line := observe.Line{
		Time: time.Unix(1, 5000).UTC(), Message: "request", Method: "GET", Route: "/v2/{name}/manifests/{reference}",
		Path: "/v2/a/manifests/b", Status: 200, Took: 269999 * time.Nanosecond, Bytes: 7, Identity: "anonymous", TraceID: "ab",
	}
	if err := h.(observe.LineHandler).HandleLine(t.Context(), line); err != nil {
		t.Error(err)
	}
	if err := h.Handle(t.Context(), line.Record()); err != nil {
		t.Error(err)
	}
	const want = `{"time":"1970-01-01T00:00:01.000005Z","level":"INFO","msg":"request","room":"server",` +
		`"method":"GET","route":"/v2/{name}/manifests/{reference}","path":"/v2/a/manifests/b","status":200,` +
		`"duration_ms":0.269,"bytes":7,"identity":"anonymous","trace_id":"ab"}` + "\n"
	if b.String() != want+want {
		t.Errorf("%q", b.String())
	}
}

// A request's line follows the room's level and the format, as every other does, and nothing is
// allocated for it.
func TestLinesOfRequests(t *testing.T) {
	var b bytes.Buffer
	c := config.Default().Log
	c.Format = config.FormatJSON
	l := newLogs(&b, c)
	l.release()
	handler := observe.HTTP(http.NotFoundHandler(), observe.NewMetrics(prometheus.NewRegistry()), l.room("server"))
	asked := func() string {
		b.Reset()
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/x", nil))
		return b.String()
	}
	if got := asked(); !strings.HasPrefix(got, `{"time":`) || !strings.Contains(got, `"room":"server","method":"GET"`) {
		t.Errorf("%q", got)
	}
	h := l.room("server").Handler().(observe.LineHandler)
	line := observe.Line{Time: time.Now(), Message: "request", Took: time.Second}
	if n := testing.AllocsPerRun(100, func() { b.Reset(); _ = h.HandleLine(t.Context(), line) }); n >= 1 {
		t.Errorf("%v allocations", n)
	}
	c.Format = config.FormatText
	l.configure(c)
	if got := asked(); !strings.Contains(got, " room=server method=GET ") {
		t.Errorf("%q", got)
	}
	c.Levels = map[string]config.Level{"server": config.Level(slog.LevelWarn)}
	l.configure(c)
	if got := asked(); got != "" {
		t.Errorf("%q", got)
	}
}

// refusing is a handler that makes nothing of any record.
type refusing struct{ slog.Handler }

func (refusing) Enabled(context.Context, slog.Level) bool  { return true }
func (h refusing) WithAttrs([]slog.Attr) slog.Handler      { return h }
func (refusing) Handle(context.Context, slog.Record) error { return io.ErrUnexpectedEOF }
