package observe

import (
	"context"
	"encoding/binary"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"
)

// share is how many of 2^63 traces that begin here are exported. Which ones, the second
// half of their ids says, as it does to sdktrace.TraceIDRatioBased: whoever asks that of an
// id hears what was decided here.
type share uint64

func shareOf(sampling float64) share {
	if sampling <= 0 {
		return 0
	}
	return share(max(1, sampling*(1<<63)))
}

// draw names a trace, and decides about it.
func (s share) draw() (id trace.TraceID, exported bool) {
	low := rand.Uint64()
	return newTraceID(low), low>>1 < uint64(s)
}

// NewIDs implements sdktrace.IDGenerator: a new trace of the SDK's is one that draw has said
// is exported, and so may be named only as such.
func (s share) NewIDs(context.Context) (trace.TraceID, trace.SpanID) {
	return newTraceID(rand.Uint64N(uint64(s))<<1 | rand.Uint64()&1), newSpanID()
}

// NewSpanID implements sdktrace.IDGenerator.
func (share) NewSpanID(context.Context, trace.TraceID) trace.SpanID { return newSpanID() }

func newTraceID(low uint64) (id trace.TraceID) {
	binary.BigEndian.PutUint64(id[:8], max(1, rand.Uint64())) // 0 is no id
	binary.BigEndian.PutUint64(id[8:], low)
	return id
}

func newSpanID() (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], max(1, rand.Uint64()))
	return id
}
