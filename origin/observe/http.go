package observe

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/weir-registry/weir/origin"
)

// statusGone is what is logged and counted where no client was left to be
// answered, as nginx does.
const statusGone = 499

// maxPath is the most of a path that a log line holds, in bytes.
const maxPath = 2048

// HTTP wraps the outermost handler of a server: it gives each request its
// [origin.Request], with the id of the trace that it is in or a new one, counts and
// times it, and logs it in one line.
func HTTP(next http.Handler, m *Metrics, log *slog.Logger) http.Handler {
	return handler(next, m, log, nil)
}

func handler(next http.Handler, m *Metrics, log *slog.Logger, t *Tracing) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		x := &exchange{}
		ctx, span := t.begin(r, x)
		req, rec := &x.request, &x.recorder
		req.ID, rec.ResponseWriter = traceID(span, r.Header["Traceparent"]), w
		recorded := http.ResponseWriter(rec)
		if to, ok := w.(io.ReaderFrom); ok {
			x.files = fileRecorder{rec, to}
			recorded = &x.files
		}
		m.inFlight.Inc()
		defer func() {
			// Nothing is swallowed: the panic goes on below, with its own stack.
			fault := recover()
			m.inFlight.Dec()
			took := time.Since(start)
			status, msg := rec.outcome(fault, ctx.Err() != nil)
			m.request(r.Method, req.Route, status, took, rec.bytes)
			x.describe(span, r, status)
			log, level := log, slog.LevelInfo
			if fault != nil && fault != http.ErrAbortHandler {
				// The server says so too, where nobody looks: below the level of most logs.
				level = slog.LevelError
				log = log.With("error", printable(fmt.Sprint(fault)), "stack", string(debug.Stack()))
			}
			if log.Enabled(ctx, level) {
				line := Line{
					Time: start.Add(took), Level: level, Message: msg,
					Method: r.Method, Route: req.Route, Path: short(r.URL.EscapedPath()),
					Status: status, Took: took, Bytes: rec.bytes,
					Identity: identity(req), TraceID: req.ID,
				}
				_ = line.write(ctx, log.Handler()) // a Logger does not ask either
			}
			if fault != nil {
				panic(fault)
			}
		}()
		next.ServeHTTP(recorded, r.WithContext(origin.WithRequest(ctx, req)))
	})
}

// exchange is what is kept of one request, in one piece.
type exchange struct {
	request  origin.Request
	recorder recorder
	files    fileRecorder
	span     unsampled // if that is what it is
}

// identity is what a log line says of who asked.
func identity(req *origin.Request) string {
	if req.Principal == nil {
		return ""
	}
	return printable(req.Principal.String())
}

// traceID gives the trace id of the request's span; without one, that of a W3C Trace
// Context header, if there is one and it is valid; else a new one.
func traceID(span trace.Span, traceparent []string) string {
	if c := span.SpanContext(); c.IsValid() {
		return c.TraceID().String()
	}
	if len(traceparent) == 1 {
		if id, ok := parseTraceparent(traceparent[0]); ok {
			return id
		}
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// parseTraceparent reads version-traceid-parentid-flags (W3C Trace Context,
// 3.2); versions to come may append more.
func parseTraceparent(s string) (id string, ok bool) {
	const length = len("00-") + 32 + len("-") + 16 + len("-00")
	if len(s) < length || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return "", false
	}
	version, id, parent, flags := s[:2], s[3:35], s[36:52], s[53:55]
	switch {
	case !lowerHex(version), !lowerHex(id), !lowerHex(parent), !lowerHex(flags):
	case version == "ff", version == "00" && len(s) != length, len(s) > length && s[length] != '-':
	case strings.Trim(id, "0") == "", strings.Trim(parent, "0") == "":
	default:
		return id, true
	}
	return "", false
}

func lowerHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// short bounds a path; it is escaped, so that any byte may be cut away.
func short(path string) string {
	if len(path) > maxPath {
		return path[:maxPath] + "..."
	}
	return path
}

// printable escapes control characters: JSON leaves DEL and C1 as they are, and
// terminals obey them.
func printable(s string) string {
	control := func(c rune) bool { return c < ' ' || 0x7f <= c && c <= 0x9f }
	if strings.IndexFunc(s, control) < 0 {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		if control(c) {
			fmt.Fprintf(&b, `\u%04x`, c)
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	gone   bool // a write failed: there is no client any more
}

var (
	_ io.ReaderFrom = fileRecorder{}
	_ http.Flusher  = (*recorder)(nil)
)

// outcome gives the status to log, and what to say of the request.
func (rec *recorder) outcome(fault any, left bool) (status int, msg string) {
	switch {
	case fault == nil && rec.status == 0:
		return http.StatusOK, "request"
	case fault == nil:
		return rec.status, "request"
	case fault != http.ErrAbortHandler:
		return http.StatusInternalServerError, "request panicked"
	case left || rec.gone || rec.status == 0:
		return statusGone, "request"
	default:
		return rec.status, "request cut short"
	}
}

// Unwrap is for http.ResponseController.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *recorder) began() {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
}

// Write implements io.Writer.
func (rec *recorder) Write(b []byte) (int, error) {
	rec.began()
	n, err := rec.ResponseWriter.Write(b)
	rec.bytes += int64(n)
	rec.gone = rec.gone || err != nil
	return n, err
}

// fileRecorder is the recorder of a ResponseWriter that the kernel can send files
// to. One that reads them itself would be no gain to a handler, which has buffers
// of its own.
type fileRecorder struct {
	*recorder
	to io.ReaderFrom
}

// ReadFrom implements io.ReaderFrom.
func (rec fileRecorder) ReadFrom(src io.Reader) (int64, error) {
	rec.began()
	n, err := rec.to.ReadFrom(src)
	rec.bytes += n
	// The error may be the source's as well; and a handler may go on after a deadline.
	rec.gone = errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrDeadlineExceeded)
	return n, err
}

// Flush implements http.Flusher.
func (rec *recorder) Flush() { _ = rec.FlushError() }

// FlushError is what http.ResponseController flushes with.
func (rec *recorder) FlushError() error {
	rec.began()
	return http.NewResponseController(rec.ResponseWriter).Flush()
}
