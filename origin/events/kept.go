package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/weir-registry/weir/store"
)

// mostShown is how many events of a receiver are shown of those that wait, and of dead
// letters.
const mostShown = 1000

// Kept is an event that its receiver has not taken.
type Kept struct {
	Event
	Receiver string
	Type     string // the CloudEvents type
	Dead     bool   // it is not sent any more
	Attempts int    // by this process, of the event that is next in its repository
	Reason   string // why the last attempt failed, which is no secret; "": none did
}

// Kept gives the events that present receivers have not taken, the oldest first, at most
// 1,000 of a receiver, and as many dead letters.
func (b *Outbox) Kept(ctx context.Context) ([]Kept, error) {
	b.mu.RLock()
	queues := b.queues
	b.mu.RUnlock()
	var all []Kept
	for _, q := range queues {
		for _, buried := range []bool{false, true} {
			some, err := q.kept(ctx, buried)
			if err != nil {
				return nil, fmt.Errorf("list events of %s: %w", q.name, err)
			}
			all = append(all, some...)
		}
	}
	return all, nil
}

func (q *queue) kept(ctx context.Context, buried bool) ([]Kept, error) {
	prefix := prefixQueue + "/" + q.name
	if buried {
		prefix = prefixDead + "/" + q.name
	}
	var some []Kept
	for entry, err := range q.box.opts.Records.List(ctx, prefix, "") {
		if err != nil {
			return nil, err
		}
		rec, err := q.box.opts.Records.Get(ctx, entry.Key)
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) {
			continue // it was taken meanwhile, or will be dropped
		}
		if err != nil {
			return nil, err
		}
		k := Kept{Receiver: q.name, Dead: buried}
		if json.Unmarshal(rec.Data, &k.Event) != nil || k.Pending && !buried {
			continue
		}
		k.ID, k.Type = entry.Key[len(prefix)+1:], types[k.Kind]
		var last error
		k.Attempts, last = q.attempts(k.ID)
		if k.Reason = reason(last); k.Pending {
			k.Reason = "it is not known whether it happened"
		}
		if some = append(some, k); len(some) == mostShown {
			break
		}
	}
	return some, nil
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
