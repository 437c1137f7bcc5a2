package coord

import (
	"context"
	"fmt"
	"time"
)

// await says that somebody awaits a lock, for as long as it is held, and gives for how many
// milliseconds that is unless it is renewed; 0: nobody holds it.
const await = `
local left = redis.call('PTTL', KEYS[1])
if left == -2 then return 0 end
if left < 1 then left = 1000 end
redis.call('SET', KEYS[2], '1', 'PX', left + 1000)
return left`

// Await implements Locker. Those who hold the lock are told by a key beside it that somebody
// awaits it, so that a lock nobody awaits is given back without a word. Whoever cannot be
// told, since the subscription broke, asks.
func (r *Redis) Await(ctx context.Context, name string) error {
	freed := make(chan struct{}, 1)
	r.mu.Lock()
	r.beginFollowing()
	if r.waiting[name] == nil {
		r.waiting[name] = map[chan struct{}]struct{}{}
	}
	r.waiting[name][freed] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting[name], freed)
		if len(r.waiting[name]) == 0 {
			delete(r.waiting, name)
		}
	}()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// What is told from here on is told to this one.
		left, err := r.script(await, []string{r.prefix + "l:" + name, r.awaitKey(name)})
		if err != nil {
			return fmt.Errorf("await lock %s: %w", name, err)
		}
		if left <= 0 {
			return nil
		}
		timer := time.NewTimer(time.Duration(left+1) * time.Millisecond)
		select {
		case <-freed:
		case <-timer.C:
		case <-ctx.Done():
		case <-r.ctx.Done():
		}
		timer.Stop()
	}
}

// freed wakes those who await the lock of that name; "": all of them, since one may be free.
func (r *Redis) freed(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, all := range r.waiting {
		if name != "" && n != name {
			continue
		}
		for c := range all {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}

func (r *Redis) awaitKey(name string) string { return r.prefix + "w:" + name }
func (r *Redis) freedChannel() string        { return r.prefix + "f" }
