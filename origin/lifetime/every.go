package lifetime

import (
	"context"
	"math/rand/v2"
	"time"
)

// Every does something after each interval, give or take a tenth of it, so that many
// processes do not all do it at once; until ctx ends. With an interval of 0 it never does.
func Every(ctx context.Context, interval time.Duration, do func(context.Context)) {
	if interval <= 0 {
		return
	}
	next := func() time.Duration { return interval - interval/10 + rand.N(interval/5+1) }
	timer := time.NewTimer(next())
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			do(ctx)
			timer.Reset(next())
		case <-ctx.Done():
			return
		}
	}
}
