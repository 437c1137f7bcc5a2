package coord

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// pulse is how often a subscription asks whether it has been told all: a few times
	// within Fresh.
	pulse = 150 * time.Millisecond
	// again is how long after a subscription broke the next one begins.
	again = 200 * time.Millisecond
	// everything is announced in the place of more keys than mostKeys.
	everything = "*"
	mostKeys   = 1000
)

// A message is who publishes, and the keys, a line each.

// Publish implements Notify.
func (r *Redis) Publish(ctx context.Context, keys ...string) {
	if len(keys) == 0 {
		return
	}
	if len(keys) > mostKeys {
		keys = []string{everything}
	}
	message := r.id + "\n" + strings.Join(keys, "\n")
	ctx = context.WithoutCancel(ctx) // it has changed, whoever waits for it
	err := r.do(ctx, func(ctx context.Context) error {
		return r.client.Publish(ctx, r.channel(), message).Err()
	})
	if err == nil {
		return
	}
	if err := r.unannounced.say(ctx); err != nil {
		r.log.Warn("a change could not be announced to other replicas: it will be", "error", err)
	}
}

// Mention implements Notify.
func (r *Redis) Mention(ctx context.Context, keys ...string) {
	if len(keys) == 0 || len(keys) > mostKeys {
		return
	}
	_ = r.do(ctx, func(ctx context.Context) error { // nobody relies on it
		return r.client.Publish(ctx, r.channel(), r.id+"\n"+strings.Join(keys, "\n")).Err()
	})
}

// Settle implements Notify. What the last answered ping and the last look at the record were
// asked after the call tells that all has been told which was published before it.
func (r *Redis) Settle(ctx context.Context) error {
	began := int64(time.Since(r.base))
	timer := time.NewTimer(Settling)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if r.heard.Load() < began || r.unannounced.seen.Load() < began {
		return fmt.Errorf("settle: %w", ErrAway)
	}
	return nil
}

func (r *Redis) channel() string { return r.prefix + "n" }

// Subscribe implements Notify.
func (r *Redis) Subscribe(changed func(keys []string), missed func()) func() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subscribers = append(r.subscribers, subscriber{changed, missed})
	r.heard.Store(-int64(Fresh)) // what was told before was not told to this one
	r.beginFollowing()
	if !r.watching {
		r.watching = true
		r.running.Go(func() { r.unannounced.watch(r.ctx, r.missed) })
	}
	return r.Current
}

// beginFollowing keeps a subscription up from now on. r.mu is held.
func (r *Redis) beginFollowing() {
	if !r.following && r.ctx.Err() == nil {
		r.following = true
		r.running.Go(r.follow)
	}
}

// Current reports whether subscribers have been told what they should have been.
func (r *Redis) Current() bool {
	return time.Since(r.base)-time.Duration(r.heard.Load()) < Fresh && r.unannounced.current()
}

// told gives those who are told.
func (r *Redis) told() []subscriber {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.subscribers
}

func (r *Redis) missed() {
	for _, s := range r.told() {
		s.missed()
	}
}

// follow keeps a subscription up until Close.
func (r *Redis) follow() {
	for r.ctx.Err() == nil {
		_ = r.listen() // why it ended is told by the calls beside it
		r.freed("")    // nobody tells those who wait
		select {
		case <-time.After(again):
		case <-r.ctx.Done():
		}
	}
}

var errBroken = errors.New("coord: subscription broke")

// listen is one subscription. It gives up on the first thing that is not as it should
// be: the client would go on behind our back, without what was said meanwhile.
func (r *Redis) listen() error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	ps := r.client.Subscribe(ctx, r.channel(), r.freedChannel())
	defer func() { _ = ps.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = ps.Close() })
	defer stop()
	for range 2 { // the channels
		first, err := ps.ReceiveTimeout(ctx, 2*r.patience)
		if err != nil {
			return err
		}
		if _, ok := first.(*redis.Subscription); !ok {
			return errBroken
		}
	}
	r.missed()
	r.freed("")

	r.running.Go(func() {
		defer cancel()
		ticker := time.NewTicker(pulse)
		defer ticker.Stop()
		for {
			// What it was told when this is answered is all that there was when it was sent.
			sent := strconv.FormatInt(int64(time.Since(r.base)), 10)
			if err := ps.Ping(ctx, sent); err != nil {
				return
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		message, err := ps.ReceiveTimeout(ctx, 3*Fresh)
		if err != nil {
			return err
		}
		switch m := message.(type) {
		case *redis.Pong:
			sent, err := strconv.ParseInt(m.Payload, 10, 64)
			if err != nil || sent > int64(time.Since(r.base)) {
				return errBroken
			}
			r.heard.Store(sent)
		case *redis.Message:
			if m.Channel == r.freedChannel() {
				r.freed(m.Payload)
			} else {
				r.tell(m.Payload)
			}
		default:
			return errBroken
		}
	}
}

// tell passes a message on.
func (r *Redis) tell(message string) {
	who, rest, ok := strings.Cut(message, "\n")
	switch {
	case ok && who == r.id:
		return
	case !ok || rest == "" || rest == everything:
		r.missed()
		return
	}
	keys := strings.Split(rest, "\n")
	for _, s := range r.told() {
		s.changed(keys)
	}
}
