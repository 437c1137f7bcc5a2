package observe

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	// queued is how many spans wait at most, those that are on their way included; some
	// 2 MiB.
	queued = 2048
	// batch is how many are sent at a time, and batchDelay how long the first of them
	// waits at most for the others.
	batch      = 512
	batchDelay = time.Second
	// exportTimeout is how long the receiver may take for a batch, with all that is tried
	// again: what does not go by then is lost.
	exportTimeout = 10 * time.Second
)

// queue is between spans that have ended and the exporter. It never blocks who ends one:
// what does not fit is lost, and counted.
//
// It stands around the SDK's batches, which lose spans as well, but tell nobody how many.
// Since no more than fit are ever under way in there, none is lost in there.
type queue struct {
	sdktrace.SpanProcessor
	log    *slog.Logger
	life   context.Context // ends with the last chance to export
	end    context.CancelFunc
	queued atomic.Int64
	lost   atomic.Int64 // since it was last said

	mu      sync.Mutex
	failing bool
}

func newQueue(e sdktrace.SpanExporter, log *slog.Logger) *queue {
	q := &queue{log: log}
	q.life, q.end = context.WithCancel(context.Background())
	q.SpanProcessor = sdktrace.NewBatchSpanProcessor(exporter{e, q},
		sdktrace.WithMaxQueueSize(queued), sdktrace.WithMaxExportBatchSize(batch),
		sdktrace.WithBatchTimeout(batchDelay), sdktrace.WithExportTimeout(exportTimeout))
	return q
}

// OnEnd implements sdktrace.SpanProcessor.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if q.queued.Add(1) > queued {
		q.queued.Add(-1)
		q.lost.Add(1)
		return
	}
	q.SpanProcessor.OnEnd(s)
}

// Shutdown implements sdktrace.SpanProcessor. What is not exported when ctx ends is lost:
// the exporter is told, and returns, so that all is counted by then.
func (q *queue) Shutdown(ctx context.Context) error {
	stop := context.AfterFunc(ctx, q.end)
	err := q.SpanProcessor.Shutdown(context.WithoutCancel(ctx))
	stop()
	q.end()
	if lost := q.lost.Swap(0); lost > 0 {
		q.log.Warn("spans were lost", "spans", lost)
	}
	return err
}

// sent takes note of a batch of n spans. It is said once that there is no receiver, and
// once that there is one again.
func (q *queue) sent(n int, err error) {
	q.queued.Add(int64(-n))
	if err != nil {
		q.lost.Add(int64(n))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case err != nil && !q.failing:
		q.failing = true
		q.log.Warn("spans cannot be exported", "error", err)
	case err == nil && q.failing:
		q.failing = false
		q.log.Info("spans can be exported again", "lost", q.lost.Swap(0))
	case err == nil && q.lost.Load() > 0:
		q.log.Warn("spans were lost: more ended than could be exported", "spans", q.lost.Swap(0))
	}
}

// exporter tells the queue what became of its spans.
type exporter struct {
	sdktrace.SpanExporter
	queue *queue
}

// ExportSpans implements sdktrace.SpanExporter. It has no error: all is said.
func (e exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.queue.life, cancel)()
	e.queue.sent(len(spans), e.SpanExporter.ExportSpans(ctx, spans))
	return nil
}
