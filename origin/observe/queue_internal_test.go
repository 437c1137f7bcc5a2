package observe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// receiver is one that hangs, or is down.
type receiver struct {
	got  int
	hang bool
	err  error
}

func (r *receiver) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if r.hang {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if r.err == nil {
		r.got += len(spans)
	}
	return r.err
}

func (*receiver) Shutdown(context.Context) error { return nil }

// TestQueueNeverWaits: however many spans end, and whatever the receiver does, whoever ends
// one does not wait: in the bubble the clock stands still as long as somebody runs. All
// that is lost is counted, once, and it is said once that there is no receiver.
func TestQueueNeverWaits(t *testing.T) {
	const ended = 10_000
	for name, r := range map[string]*receiver{
		"hangs": {hang: true}, "is down": {err: errors.New("down")}, "is there": {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var lines bytes.Buffer
				tracing := newTracing(TracingOptions{Sampling: 1, Log: slog.New(slog.NewTextHandler(&lines, nil))}, r)
				end := func(n int) {
					for range n {
						_, span := tracing.tracer.Start(t.Context(), "x")
						span.End()
					}
				}
				began := time.Now()
				end(ended)
				if waited := time.Since(began); waited > 0 {
					t.Errorf("%d spans took %v", ended, waited)
				}
				time.Sleep(time.Minute)
				end(1)
				began = time.Now()
				limit, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				_ = tracing.Shutdown(limit)
				if took := time.Since(began); took > 3*time.Second {
					t.Errorf("the end took %v", took)
				}
				synctest.Wait()
				lost := 0
				for line := range strings.Lines(lines.String()) {
					if _, text, ok := strings.Cut(line, "spans="); ok {
						var n int
						if _, err := fmt.Sscan(text, &n); err != nil {
							t.Error(err)
						}
						lost += n
					}
				}
				if lost+r.got != ended+1 {
					t.Errorf("of %d spans %d came, and %d are said to be lost\n%s", ended+1, r.got, lost, &lines)
				}
				want := 1
				if name == "is there" {
					want = 0
					if r.got < queued {
						t.Errorf("only %d came", r.got)
					}
				}
				if n := strings.Count(lines.String(), "cannot be exported"); n != want {
					t.Errorf("it is said %d times that they cannot be exported\n%s", n, &lines)
				}
			})
		})
	}
}
