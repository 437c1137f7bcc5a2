package lifetime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-registry/weir/origin"
)

// ErrClock says that nothing is collected because the clocks do not agree.
var ErrClock = errors.New("clocks do not agree")

// steadiness is what is remembered of the store's clock from one run to the next.
type steadiness struct {
	store   time.Time // when it was last asked
	local   time.Time // by this process's monotonic clock
	jumped  time.Time // when, by the same; zero: it has not
	forward time.Duration
}

// time gives the store's, if one may rely on it: this process's clock says much the same
// (of two that differ nobody knows which is wrong), and it has not jumped ahead within the
// last grace, or leases would look older than they are. here tells the time of this process.
func (c *steadiness) time(ctx context.Context, of origin.Inventory, here func() time.Time, grace time.Duration) (time.Time, error) {
	most := grace / 4
	asked := here()
	now, err := of.Now(ctx)
	if err != nil {
		return now, err
	}
	told, local := here(), time.Now()
	if !c.store.IsZero() {
		if ahead := now.Sub(c.store) - local.Sub(c.local); ahead > most {
			c.jumped, c.forward = local, ahead
		}
	}
	c.store, c.local = now, local
	if now.Before(asked.Add(-most)) || now.After(told.Add(most)) {
		return now, fmt.Errorf("%w: it is %s here, and %s by the store's; they may be %v apart", ErrClock, told.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), most)
	}
	if !c.jumped.IsZero() && local.Sub(c.jumped) < grace {
		return now, fmt.Errorf("%w: the store's has jumped ahead by %v less than %v ago", ErrClock, c.forward, grace)
	}
	return now, nil
}
