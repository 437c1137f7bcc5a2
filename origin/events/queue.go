package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

const (
	// atOnce is how many events a receiver is sent at a time.
	atOnce = 8
	// firstWait doubles up to longestWait while something is not taken.
	firstWait, longestWait = time.Second, 10 * time.Second
	// patience is how long what is not taken is sent again.
	patience = 24 * time.Hour
	// keptDead is how old dead letters become.
	keptDead = 30 * 24 * time.Hour
	// mostHeld is how many ids are in memory, some hundred bytes each; more wait in the
	// records alone.
	mostHeld = 100_000
	// mostMentioned is how many pulls and fills wait in memory.
	mostMentioned = 1024
	// undecided is after how long a deletion that nobody said was done was cut.
	undecided = time.Minute
	// candidacy is how often somebody asks whether he may tell, where another one does.
	candidacy = 2 * time.Second
)

// queue is what waits to be told to one receiver.
type queue struct {
	name   string
	box    *Outbox
	to     atomic.Pointer[Receiver]
	few    chan Event // pulls and fills
	stop   context.Context
	cancel context.CancelFunc
	again  chan struct{} // has it listed

	mu      sync.Mutex
	telling context.Context // nil: another process tells, or nobody
	lines   map[string]*line
	ready   []*line // those that wait for a turn
	sending int
	held    int
	partial bool // more waits in the records than in memory
	listing bool // it is not known what comes first
	failing bool
	workers sync.WaitGroup
}

// line is what must be told one after the other.
type line struct {
	ids   []string // sorted; the first is told next
	now   string   // what is being told
	wait  time.Duration
	tries int   // of the first
	err   error // of the last try
	moves bool  // it is ready, or something is being told, or it waits for its time
}

func newQueue(b *Outbox, r Receiver) *queue {
	q := &queue{name: r.Name, box: b, few: make(chan Event, mostMentioned), again: make(chan struct{}, 1)}
	q.to.Store(&r)
	b.opts.Meter.Receiver(r.Name)
	q.stop, q.cancel = context.WithCancel(b.stop)
	return q
}

func (q *queue) start() {
	q.box.running.Go(q.run)
	for range atOnce {
		q.box.running.Go(q.tellMentioned)
	}
}

// end lets go of what waits.
func (q *queue) end() { q.cancel() }

// run tells what waits whenever it is this process that may.
func (q *queue) run() {
	for q.stop.Err() == nil {
		release, lost, err := q.box.opts.Lead(q.stop, q.name)
		if err != nil {
			select {
			case <-time.After(candidacy):
			case <-q.stop.Done():
			}
			continue
		}
		q.lead(lost)
		release()
	}
}

// lead tells what waits until the right to is lost.
func (q *queue) lead(lost <-chan struct{}) {
	ctx, cancel := context.WithCancel(q.stop)
	defer cancel()
	q.mu.Lock()
	q.telling, q.lines, q.ready, q.held, q.partial, q.listing = ctx, map[string]*line{}, nil, 0, false, true
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		q.telling = nil
		q.mu.Unlock()
		q.workers.Wait()
	}()
	q.relist()
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-lost:
			return
		case <-q.again:
		case <-retry:
		}
		retry = nil
		if err := q.list(ctx); err != nil && ctx.Err() == nil {
			q.box.opts.Logger.Warn("events that wait are not listed", "receiver", q.name, "error", err)
			retry = time.After(longestWait)
		}
	}
}

func (q *queue) relist() {
	select {
	case q.again <- struct{}{}:
	default:
	}
}

// list takes up what waits in the records.
func (q *queue) list(ctx context.Context) error {
	q.mu.Lock()
	q.partial, q.listing = false, true
	q.mu.Unlock()
	prefix := prefixQueue + "/" + q.name
	for e, err := range q.box.opts.Records.List(ctx, prefix, "") {
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		if !q.add(e.Key[len(prefix)+1:]) {
			break
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.listing = false
	q.turn()
	return nil
}

// add takes up one that waits, if it is this process that tells. It reports whether
// there is room for more.
func (q *queue) add(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.telling == nil || q.partial {
		return false
	}
	if q.held >= mostHeld {
		q.partial = true
		return false
	}
	l := q.lines[lineOf(id)]
	if l == nil {
		l = &line{}
		q.lines[lineOf(id)] = l
	}
	if id == l.now || !l.insert(id) {
		return true
	}
	q.held++
	if !l.moves {
		q.queueUp(l)
	}
	return true
}

// insert reports whether the id is new.
func (l *line) insert(id string) bool {
	i, known := slices.BinarySearch(l.ids, id)
	if !known {
		l.ids = slices.Insert(l.ids, i, id)
	}
	return !known
}

// queueUp has a line wait for its turn. The lock is held.
func (q *queue) queueUp(l *line) {
	l.moves = true
	q.ready = append(q.ready, l)
	q.turn()
}

// turn sends what is ready, as far as that may be: nothing while it is listed, for what
// comes first may come last in it. The lock is held.
func (q *queue) turn() {
	for q.telling != nil && !q.listing && q.sending < atOnce && len(q.ready) > 0 {
		l := q.ready[0]
		q.ready = q.ready[1:]
		q.sending++
		ctx := q.telling
		l.now, l.ids = l.ids[0], l.ids[1:]
		id := l.now
		q.workers.Go(func() { q.next(ctx, l, id) })
	}
}

// next tells the first of a line.
func (q *queue) next(ctx context.Context, l *line, id string) {
	done, failure := q.tell(id)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sending--
	if ctx != q.telling {
		return // another begins, or has begun
	}
	l.now = ""
	if !done {
		l.insert(id)
		if failure != nil {
			l.tries++
			l.err = failure
		}
		l.wait = min(max(2*l.wait, firstWait), longestWait)
		time.AfterFunc(l.wait, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			if ctx == q.telling {
				q.queueUp(l)
			}
		})
		q.turn()
		return
	}
	q.held--
	l.wait, l.tries, l.err = 0, 0, nil
	if len(l.ids) == 0 {
		delete(q.lines, lineOf(id))
	} else {
		q.queueUp(l)
	}
	if q.partial && q.held < mostHeld/2 {
		q.relist()
	}
	q.turn()
}

// tell reports whether nothing more is to be said of an event; failure is what its
// receiver did not take it for.
func (q *queue) tell(id string) (done bool, failure error) {
	// What is being sent may come to its end though nothing more is sent.
	ctx, records, log := q.box.limit, q.box.opts.Records, q.box.opts.Logger
	key := queueKey(q.name, id)
	rec, err := records.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	if err != nil && !errors.Is(err, store.ErrDamaged) {
		log.Warn("event is not read", "receiver", q.name, "id", id, "error", err)
		return false, nil
	}
	e := Event{ID: id}
	if err != nil || json.Unmarshal(rec.Data, &e) != nil || types[e.Kind] == "" {
		// It would keep all that comes after it waiting.
		log.Error("event is damaged, and dropped", "receiver", q.name, "id", id)
		return q.forget(ctx, key), nil
	}
	if e.Pending {
		if time.Since(rec.Modified) < undecided {
			return false, nil
		}
		gone, err := q.box.gone(ctx, e)
		switch {
		case err != nil:
			log.Warn("it is not known whether what was to be deleted is", "receiver", q.name, "repository", e.Repository, "error", err)
			return q.expire(ctx, e, rec.Data), nil
		case !gone:
			return q.forget(ctx, key), nil
		}
	}
	err = q.to.Load().send(ctx, q.box.from(), e)
	q.took(err)
	if err == nil {
		q.box.opts.Meter.Event(q.name, delivered)
		return q.forget(ctx, key), nil
	}
	q.box.opts.Meter.Event(q.name, failed)
	return q.expire(ctx, e, rec.Data), err
}

// expire makes a dead letter of what could not be told for a day, and reports whether it is
// one, and waits no more.
func (q *queue) expire(ctx context.Context, e Event, data []byte) bool {
	if born, ok := bornAt(e.ID); ok && time.Since(born) < patience {
		return false
	}
	log := q.box.opts.Logger
	if _, err := q.box.opts.Records.Put(ctx, deadKey(q.name, e.ID), data, store.Always()); err != nil {
		log.Error("dead letter is not kept", "receiver", q.name, "id", e.ID, "error", err)
		return false
	}
	q.box.opts.Meter.Event(q.name, dead)
	q.bury(ctx)
	log.Error("event was not taken for a day and is a dead letter", "receiver", q.name, "id", e.ID, "repository", e.Repository)
	return q.forget(ctx, queueKey(q.name, e.ID))
}

// bury deletes the dead letters that nobody has looked at for long.
func (q *queue) bury(ctx context.Context) {
	records, prefix := q.box.opts.Records, prefixDead+"/"+q.name
	for e, err := range records.List(ctx, prefix, "") {
		if err != nil {
			return // the next one comes by here, too
		}
		if born, ok := bornAt(e.Key[len(prefix)+1:]); ok && time.Since(born) < keptDead {
			return
		}
		if err := records.Delete(ctx, e.Key, store.Always()); err != nil {
			return
		}
	}
}

// forget reports whether the record is gone.
func (q *queue) forget(ctx context.Context, key string) bool {
	err := q.box.opts.Records.Delete(ctx, key, store.Always())
	if err == nil || errors.Is(err, store.ErrNotFound) {
		return true
	}
	q.box.opts.Logger.Warn("event stays, and will be told again", "receiver", q.name, "error", err)
	return false
}

// took says once that a receiver takes nothing any more, and once that it does again.
func (q *queue) took(err error) {
	q.mu.Lock()
	was := q.failing
	q.failing = err != nil
	q.mu.Unlock()
	switch {
	case err != nil && !was:
		q.box.opts.Logger.Warn("events are not taken", "receiver", q.name, "error", err)
	case err == nil && was:
		q.box.opts.Logger.Info("events are taken again", "receiver", q.name)
	}
}

// gone reports whether what was to be deleted is not there.
func (b *Outbox) gone(ctx context.Context, e Event) (bool, error) {
	repo, err := origin.ParseRepo(e.Repository)
	if err != nil {
		return true, nil
	}
	ref, err := origin.ParseRef(refText(e))
	if err != nil {
		return true, nil
	}
	b.mu.RLock()
	reader := b.reader
	b.mu.RUnlock()
	_, err = reader.Resolve(ctx, repo, ref)
	switch {
	case origin.Unknown(err):
		return true, nil
	case errors.Is(err, origin.ErrDamaged):
		return false, nil // what is damaged is there
	}
	return false, err
}

func refText(e Event) string {
	if e.Tag != "" {
		return e.Tag
	}
	return e.Digest.String()
}

// mention sends soon, or drops, what nobody writes down.
func (q *queue) mention(e Event) {
	select {
	case q.few <- e:
	default:
		q.box.opts.Meter.Event(q.name, dropped)
	}
}

// tellMentioned sends pulls and fills, each once.
func (q *queue) tellMentioned() {
	for {
		select {
		case e := <-q.few:
			err := q.to.Load().send(q.box.limit, q.box.from(), e)
			q.took(err)
			if err == nil {
				q.box.opts.Meter.Event(q.name, delivered)
			} else {
				q.box.opts.Meter.Event(q.name, dropped)
			}
		case <-q.stop.Done():
			q.dropMentioned()
			return
		}
	}
}

func (q *queue) dropMentioned() {
	for {
		select {
		case <-q.few:
			q.box.opts.Meter.Event(q.name, dropped)
		default:
			return
		}
	}
}
