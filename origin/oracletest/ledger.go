package oracletest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// ErrUnanswered says that a request got no whole answer. What it asked for may still
// happen.
var ErrUnanswered = errors.New("no answer")

// Kind is a kind of operation.
type Kind string

// The kinds of operations.
const (
	PushBlob       Kind = "push blob"
	Mount          Kind = "mount"
	PushManifest   Kind = "push manifest"
	DeleteTag      Kind = "delete tag"
	DeleteManifest Kind = "delete manifest"
	DeleteBlob     Kind = "delete blob"
)

// Op is an operation that changes something, if it is done.
type Op struct {
	Kind    Kind
	Repo    string
	From    string          // the repository that a blob is mounted from
	Digest  digest.Digest   // of the blob or manifest
	Tags    []string        // that come to name the manifest, or the one that is deleted
	Subject digest.Digest   // of the manifest
	Needs   []digest.Digest // blobs of the manifest
	Needed  []digest.Digest // manifests of the index
}

func (o Op) String() string {
	return fmt.Sprintf("%s %s %s %v in %s", o.Kind, o.Digest, o.From, o.Tags, o.Repo)
}

// Outcome is what became of an operation.
type Outcome int

// The outcomes. An operation that has not ended is unknown.
const (
	Unknown Outcome = iota // it may have been done, or in part
	Acked                  // it was done
	Refused                // it was not done, and nothing has changed
)

func (o Outcome) String() string { return [...]string{"unknown", "acked", "refused"}[o] }

// OutcomeOf is the outcome of an operation that ended with that error.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Acked
	}
	if e, ok := errors.AsType[*origin.Error](err); ok && e.HTTPStatus() < 500 && !errors.Is(err, ErrUnanswered) {
		return Refused
	}
	return Unknown
}

// Ledger has all operations that were begun, in order. The zero value is empty. It is
// safe for concurrent use.
type Ledger struct {
	// Collects says that garbage is collected without regard to leases: a blob that no
	// manifest needs may be gone at any time, and so may a manifest whose subject is.
	Collects bool

	mu     sync.Mutex
	events []event // only ever appended to

	carried int // of the events: those that a checkpoint has made
}

// event is that an operation began (op), or ended (outcome), or that all those without
// an answer ended (settle).
type event struct {
	began    int // of an end: the index of the beginning
	op       *Op
	outcome  Outcome
	answered bool
	settle   bool
}

// Begin notes that an operation begins. end notes that it has ended, with that error.
func (l *Ledger) Begin(op Op) (end func(error) Outcome) {
	n := l.add(event{op: &op})
	return func(err error) Outcome {
		outcome := OutcomeOf(err)
		l.add(event{began: n, outcome: outcome, answered: !errors.Is(err, ErrUnanswered)})
		return outcome
	}
}

// Settle notes that whatever had no answer so far happens no more: the process that
// should have done it is gone.
func (l *Ledger) Settle() { l.add(event{settle: true}) }

func (l *Ledger) add(e event) (index int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	return len(l.events) - 1
}

// now is the index of the next event.
func (l *Ledger) now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.events)
}

// Snapshot is the ledger as it is now. It costs nothing.
func (l *Ledger) Snapshot() *Ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Ledger{Collects: l.Collects, events: slices.Clip(l.events)}
}

// Count gives how many operations ended so, of those since the last checkpoint.
func (l *Ledger) Count(outcome Outcome) int {
	n := 0
	for _, r := range l.Snapshot().records() {
		if r.outcome == outcome && r.begin >= l.carried {
			n++
		}
	}
	return n
}

// String counts operations by kind and outcome.
func (l *Ledger) String() string {
	counts := map[string]int{}
	for _, r := range l.Snapshot().records() {
		counts[fmt.Sprint(r.op.Kind, " ", r.outcome)]++
	}
	var s []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		s = append(s, fmt.Sprint(counts[what], " ", what))
	}
	return strings.Join(s, ", ")
}

// record is an operation, and when it began and ended.
type record struct {
	op         *Op
	begin, end int
	outcome    Outcome
}

// never is when something ends that has not.
const never = int(^uint(0) >> 1)

// records gives all operations in the order of their beginning.
func (l *Ledger) records() []record {
	var all []record
	index := make(map[int]int, len(l.events)/2) // in all, by the index of the beginning
	open := map[int]bool{}                      // without an answer
	for i, e := range l.events {
		switch {
		case e.op != nil:
			index[i] = len(all)
			open[len(all)] = true
			all = append(all, record{op: e.op, begin: i, end: never})
		case e.settle:
			for n := range open {
				all[n].end = i
			}
			clear(open)
		default:
			r := &all[index[e.began]]
			r.outcome = e.outcome
			if e.answered {
				r.end = i
				delete(open, index[e.began])
			}
		}
	}
	return all
}
