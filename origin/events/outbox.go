package events

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Receiver is somebody who is told.
type Receiver struct {
	// Name is what operators call it: one component of a record's key.
	Name string
	URL  *url.URL
	// Secret gives what each event is signed with; "" = none is.
	Secret func() (string, error)
	// Kinds are what it wants to be told; none = everything.
	Kinds []Kind
	// Repositories reports whether it wants to be told of a repository; nil: of all.
	Repositories func(origin.Repo) bool
	// Transport sends. It must not follow redirects.
	Transport http.RoundTripper
}

func (r *Receiver) wants(k Kind, repo origin.Repo) bool {
	return r.wantsKind(k) && (r.Repositories == nil || r.Repositories(repo))
}

func (r *Receiver) wantsKind(k Kind) bool { return len(r.Kinds) == 0 || slices.Contains(r.Kinds, k) }

// Options are what an Outbox works with.
type Options struct {
	// Records keep what has not been taken yet.
	Records store.Records
	// Lead asks for the right to tell a receiver what waits, where other processes do so
	// too: release gives it back, and lost is closed when it may be another's. An error
	// says that it is another's, or that nobody knows. nil: there are no others.
	Lead func(ctx context.Context, receiver string) (release func(), lost <-chan struct{}, err error)
	// Others tells what other processes write to the records; nil: there are none.
	Others Others
	// Meter counts; nil: nobody does.
	Meter Meter
	// Logger gets what an operator wants to know; nil discards it.
	Logger *slog.Logger
}

// Others tells what other processes write.
type Others interface {
	// Subscribe has changed told the keys that others wrote, and missed that some may not
	// have been told.
	Subscribe(changed func(keys []string), missed func()) (current func() bool)
}

// Meter is told what becomes of events.
type Meter interface {
	// Receiver is called before anything is counted of one.
	Receiver(name string)
	// Event counts one: delivered, failed (an attempt), dead, dropped.
	Event(receiver, result string)
}

const (
	delivered = "delivered"
	failed    = "failed"
	dead      = "dead"
	dropped   = "dropped"
)

const (
	prefixQueue = "events/queue"
	prefixDead  = "events/dead"
)

// Prefix is below which an Outbox keeps its records.
const Prefix = "events/"

func queueKey(receiver, id string) string { return prefixQueue + "/" + receiver + "/" + id }
func deadKey(receiver, id string) string  { return prefixDead + "/" + receiver + "/" + id }

// Outbox keeps what is to be told until it is taken. It is an [origin.Journal]. All
// methods are safe for concurrent use.
type Outbox struct {
	opts Options
	ids  ids

	mu      sync.RWMutex
	source  string
	queues  []*queue
	reader  origin.Reader // nil until Start
	running sync.WaitGroup
	// limit ends what is being sent; stop ends what would be sent next.
	limit, stop         context.Context
	cancelLimit, cancel context.CancelFunc
}

var _ origin.Journal = (*Outbox)(nil)

// New makes an Outbox. Nobody is told anything before Start.
func New(o Options) *Outbox {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = noMeter{}
	}
	if o.Lead == nil {
		o.Lead = func(context.Context, string) (func(), <-chan struct{}, error) { return func() {}, nil, nil }
	}
	b := &Outbox{opts: o}
	b.limit, b.cancelLimit = context.WithCancel(context.Background())
	b.stop, b.cancel = context.WithCancel(b.limit)
	return b
}

type noMeter struct{}

func (noMeter) Receiver(string)      {}
func (noMeter) Event(string, string) {}

// Receive makes these the receivers, from the next event on, and source what events say
// that they come from: a URI reference. What waits for a receiver that is not among them
// any more stays until one of its name is.
func (b *Outbox) Receive(source string, receivers []Receiver) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.source = source
	old := b.queues
	b.queues = nil
	for _, r := range receivers {
		i := slices.IndexFunc(old, func(q *queue) bool { return q.name == r.Name })
		if i >= 0 {
			old[i].to.Store(&r)
			b.queues = append(b.queues, old[i])
			old = slices.Delete(old, i, i+1)
			continue
		}
		q := newQueue(b, r)
		b.queues = append(b.queues, q)
		if b.reader != nil {
			q.start()
		}
	}
	for _, q := range old {
		q.end()
	}
}

// Start begins to tell. reader is where deletions that were cut by the end of a process
// are looked for: the registry that this is the Journal of.
func (b *Outbox) Start(reader origin.Reader) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reader = reader
	for _, q := range b.queues {
		q.start()
	}
	if b.opts.Others != nil {
		b.opts.Others.Subscribe(b.changed, b.missed)
	}
}

// Close ends telling: what is being sent may come to its end until ctx ends. What waits
// goes on waiting; pulls and fills that wait are dropped.
func (b *Outbox) Close(ctx context.Context) {
	b.cancel()
	defer context.AfterFunc(ctx, b.cancelLimit)()
	b.running.Wait()
	b.cancelLimit()
}

// Told reports whether anybody wants to be told of such events.
func (b *Outbox) Told(k Kind) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.ContainsFunc(b.queues, func(q *queue) bool { return q.to.Load().wantsKind(k) })
}

// Pushed implements origin.Journal.
func (b *Outbox) Pushed(ctx context.Context, c origin.Change) origin.Entry {
	told := b.who(Push, c.Repo)
	if len(told) == 0 {
		return origin.Entry{}
	}
	return enter(b.event(ctx, Push, c), told)
}

// Deleted implements origin.Journal.
func (b *Outbox) Deleted(ctx context.Context, c origin.Change) (before, after origin.Entry) {
	told := b.who(Delete, c.Repo)
	if len(told) == 0 {
		return before, after
	}
	e := b.event(ctx, Delete, c)
	after = enter(e, told)
	e.Pending = true
	before = enter(e, told)
	// It says nothing yet; if nobody says more of it, what became of it is looked for then.
	add := before.Written
	before.Written = func() { time.AfterFunc(undecided, add) }
	return before, after
}

// Pulled tells of a manifest that somebody was given.
func (b *Outbox) Pulled(ctx context.Context, c origin.Change) {
	b.mention(ctx, Pull, c)
}

// Filled tells of a blob that was fetched and is kept.
func (b *Outbox) Filled(repo origin.Repo, d v1.Descriptor) {
	b.mention(context.Background(), Fill, origin.Change{Repo: repo, Descriptor: d})
}

// event is a change of now.
func (b *Outbox) event(ctx context.Context, k Kind, c origin.Change) Event {
	now := time.Now()
	return Event{
		ID:   b.ids.next(c.Repo.String(), now),
		Kind: k,
		Data: Data{
			Repository: c.Repo.String(),
			Tag:        c.Tag,
			Digest:     c.Digest,
			MediaType:  c.MediaType,
			Size:       c.Size,
			Identity:   who(origin.RequestOf(ctx)),
			Time:       now.UTC(),
		},
	}
}

// who wants to be told of it.
func (b *Outbox) who(k Kind, repo origin.Repo) []*queue {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var told []*queue
	for _, q := range b.queues {
		if q.to.Load().wants(k, repo) {
			told = append(told, q)
		}
	}
	return told
}

// enter writes an event for those who are told of it.
func enter(e Event, told []*queue) origin.Entry {
	data, err := json.Marshal(e)
	if err != nil {
		panic(fmt.Sprintf("events: %v", err)) // there is nothing in it that has no JSON
	}
	entry := origin.Entry{Written: func() {
		for _, q := range told {
			q.add(e.ID)
		}
	}}
	for _, q := range told {
		entry.Writes = append(entry.Writes, store.Write{Key: queueKey(q.name, e.ID), Data: data})
	}
	return entry
}

// mention tells what nobody writes down.
func (b *Outbox) mention(ctx context.Context, k Kind, c origin.Change) {
	told := b.who(k, c.Repo)
	if len(told) == 0 {
		return
	}
	e := b.event(ctx, k, c)
	for _, q := range told {
		q.mention(e)
	}
}

// from is the CloudEvents source.
func (b *Outbox) from() string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.source
}

// changed takes note of what other processes wrote.
func (b *Outbox) changed(keys []string) {
	for _, key := range keys {
		rest, ok := strings.CutPrefix(key, prefixQueue+"/")
		if !ok {
			continue
		}
		name, id, _ := strings.Cut(rest, "/")
		if q := b.queue(name); q != nil {
			q.add(id)
		}
	}
}

// missed has everything listed again.
func (b *Outbox) missed() {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, q := range b.queues {
		q.relist()
	}
}

func (b *Outbox) queue(name string) *queue {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, q := range b.queues {
		if q.name == name {
			return q
		}
	}
	return nil
}
