package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/store"
)

const (
	// mostWaiting and mostDead are how many events of a receiver are shown of those that wait,
	// and of dead letters: each is read from a store that may be far away, together at a time.
	mostWaiting = 200
	mostDead    = 1000
	together    = 8
)

// Kept is an event that its receiver has not taken.
type Kept struct {
	Event
	Receiver string
	Type     string // the CloudEvents type
	Dead     bool   // it is not sent any more
	Attempts int    // by this process, of the event that is next in its repository
	Reason   string // why the last attempt failed, which is no secret; "": none did
}

// Kept gives the events that present receivers have not taken: the newest 200 of each
// receiver, and, if they are asked for, its newest 1,000 dead letters.
func (b *Outbox) Kept(ctx context.Context, buried bool) ([]Kept, error) {
	b.mu.RLock()
	queues := b.queues
	b.mu.RUnlock()
	var all []Kept
	for _, q := range queues {
		some, err := q.kept(ctx, prefixQueue, mostWaiting)
		if err == nil && buried {
			var old []Kept
			old, err = q.kept(ctx, prefixDead, mostDead)
			some = append(some, old...)
		}
		if err != nil {
			return nil, fmt.Errorf("list events of %s: %w", q.name, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// kept gives the newest events below the prefix, most of them at the most.
func (q *queue) kept(ctx context.Context, prefix string, most int) ([]Kept, error) {
	below := prefix + "/" + q.name
	var ids []string // in the order in which they happened
	for entry, err := range q.box.opts.Records.List(ctx, below, "") {
		if err != nil {
			return nil, err
		}
		if ids = append(ids, entry.Key[len(below)+1:]); len(ids) == 2*most {
			ids = append(ids[:0], ids[most:]...)
		}
	}
	ids = ids[max(0, len(ids)-most):]
	read := make([]*Kept, len(ids))
	reading, ctx := errgroup.WithContext(ctx)
	reading.SetLimit(together)
	for i, id := range ids {
		reading.Go(func() (err error) {
			read[i], err = q.read(ctx, below+"/"+id, id, prefix == prefixDead)
			return err
		})
	}
	if err := reading.Wait(); err != nil {
		return nil, err
	}
	var some []Kept
	for _, k := range read {
		if k != nil {
			some = append(some, *k)
		}
	}
	return some, nil
}

// read gives an event; nil: it is none that is shown.
func (q *queue) read(ctx context.Context, key, id string, buried bool) (*Kept, error) {
	rec, err := q.box.opts.Records.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) {
		return nil, nil // it was taken meanwhile, or will be dropped
	}
	if err != nil {
		return nil, err
	}
	k := Kept{Receiver: q.name, Dead: buried}
	if json.Unmarshal(rec.Data, &k.Event) != nil || k.Pending && !buried {
		return nil, nil
	}
	k.ID, k.Type = id, types[k.Kind]
	var last error
	k.Attempts, last = q.attempts(id)
	if k.Reason = reason(last); k.Pending {
		k.Reason = "it is not known whether it happened"
	}
	return &k, nil
}

// attempts is how often an event was sent in vain, and why the last time.
func (q *queue) attempts(id string) (n int, last error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[lineOf(id)]
	if l == nil || l.now != id && (l.now != "" || len(l.ids) == 0 || l.ids[0] != id) {
		return 0, nil
	}
	return l.tries, l.err
}
