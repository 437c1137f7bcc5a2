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
	if server := r.unannounced.server(ctx); server != "" {
		var told int64
		err := r.do(ctx, func(ctx context.Context) (err error) {
			told, err = r.client.Publish(ctx, r.channel(server), message).Result()
			return err
		})
		if err == nil && told > 0 { // or it is not that server
			return
		}
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
	sub := r.sub.Load()
	if sub == nil {
		return // nobody relies on it
	}
	_ = r.do(ctx, func(ctx context.Context) error {
		return r.client.Publish(ctx, r.channel(sub.server), r.id+"\n"+strings.Join(keys, "\n")).Err()
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
	if s, ok := r.relied(); !ok || r.heard.Load() < began || int64(s.asked) < began {
		return fmt.Errorf("settle: %w", ErrAway)
	}
	return nil
}

// channel is where those publish who know that a server is the one that is named, and listen
// who know that they have that one: who publishes by another server reaches nobody there.
func (r *Redis) channel(server string) string { return r.prefix + "n:" + server }

// ownChannel is where this one makes sure of which server it listens to.
func (r *Redis) ownChannel() string { return r.prefix + "o:" + r.id }

// Subscribe implements Notify.
func (r *Redis) Subscribe(changed func(keys []string), missed func()) func() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subscribers = append(r.subscribers, subscriber{changed, missed})
	r.heard.Store(-int64(Fresh)) // what was told before was not told to this one
	r.beginFollowing()
	if !r.watching {
		r.watching = true
		r.running.Go(func() { r.unannounced.watch(r.ctx, r.missed, r.agree) })
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
	_, ok := r.relied()
	return ok && time.Since(r.base)-time.Duration(r.heard.Load()) < Fresh
}

// subscription is one to a server.
type subscription struct {
	server string
	since  time.Duration // from the base
	end    func()
}

// relied gives what was seen of the record, if all are to rely on the server that tells this one.
func (r *Redis) relied() (sight, bool) {
	sub := r.sub.Load()
	s, ok := r.unannounced.current()
	return s, ok && sub != nil && s.settled && s.server == sub.server
}

// agree does what this one can for all to be told by one server, which the record names, and
// reports whether that was to name one.
//
// While a server is named and not settled nobody relies on any: those who relied on another one
// look within the time that it stays so, and what they wrote until then is read by whoever relies
// on the new one, who forgets everything when he sees that it is settled.
func (r *Redis) agree(is sight) (wrote bool) {
	sub := r.sub.Load()
	if sub == nil || is.named == (named{sub.server, true}) {
		return false
	}
	to := named{sub.server, is.server == "" || is.server == sub.server}
	switch {
	case is.server == "":
	case is.server != sub.server && is.since > sub.since:
		sub.end() // it may be another one by now that is where this one was
		return false
	case is.asked-max(is.since, sub.since) < looked:
		return false
	case is.server != sub.server:
		r.log.Warn("redis is another server than before, or than other replicas have: slower until all have one")
	}
	return r.unannounced.put(r.ctx, is, to) == nil // or another one has, or nobody can
}

// audience gives those who are told.
func (r *Redis) audience() []subscriber {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.subscribers
}

func (r *Redis) missed() {
	for _, s := range r.audience() {
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

// server gives which server it is that answers, and whether this one listens to it.
func (r *Redis) server(ctx context.Context) (id string, listens bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	var info *redis.StringCmd
	var told *redis.IntCmd
	_, _ = r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		info, told = p.Info(ctx, "server"), p.Publish(ctx, r.ownChannel(), "")
		return nil
	})
	n, err := told.Result()
	if err != nil {
		return "", false, err
	}
	for line := range strings.Lines(info.Val()) {
		if id, ok := strings.CutPrefix(line, "run_id:"); ok {
			return strings.TrimSpace(id), n == 1, nil
		}
	}
	if _, refused := errors.AsType[redis.Error](info.Err()); info.Err() != nil && !refused {
		return "", false, info.Err()
	}
	return unnamed, n == 1, nil
}

// unnamed is every server that does not say which it is: two of them are told apart by nobody.
const unnamed = "unnamed"

var errBroken = errors.New("coord: subscription broke")

// listen is one subscription. It gives up on the first thing that is not as it should
// be: the client would go on behind our back, without what was said meanwhile.
func (r *Redis) listen() error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	server, _, err := r.server(ctx)
	if err != nil {
		return err
	}
	channels := []string{r.channel(server), r.freedChannel(), r.ownChannel()}
	ps := r.client.Subscribe(ctx, channels...)
	defer func() { _ = ps.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = ps.Close() })
	defer stop()
	for range channels {
		first, err := ps.ReceiveTimeout(ctx, 2*r.patience)
		if err != nil {
			return err
		}
		if _, ok := first.(*redis.Subscription); !ok {
			return errBroken
		}
	}
	// The subscription has a connection of its own.
	if again, listens, err := r.server(ctx); err != nil || again != server || !listens {
		return errBroken
	}
	r.missed()
	r.freed("")
	r.sub.Store(&subscription{server: server, since: time.Since(r.base), end: cancel})
	defer r.sub.Store(nil)
	r.unannounced.lookSoon()

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
			switch m.Channel {
			case r.ownChannel():
			case r.freedChannel():
				r.freed(m.Payload)
			default:
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
	for _, s := range r.audience() {
		s.changed(keys)
	}
}
