package coord

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrAway says that nobody can be asked: Redis is away, or does not do what it should.
var ErrAway = errors.New("coord: away")

// HeldError says that another one holds a lock.
type HeldError struct {
	Name   string
	Holder string // what the other one said of itself; "" where that is not known
}

func (e *HeldError) Error() string { return fmt.Sprintf("coord: lock %s is held", e.Name) }

// Locker gives locks by name. Its methods are safe for concurrent use.
type Locker interface {
	// TryLock takes the lock of that name for ttl, and renews it until Unlock. holder is
	// told to those who ask for it meanwhile. Errors: *HeldError, ErrAway.
	TryLock(ctx context.Context, name, holder string, ttl time.Duration) (Lock, error)
	// Await returns once nobody holds the lock of that name, as far as can be known: whoever
	// wants it then asks for it. It is told, and asks again only when the lock would have
	// ended without its holder. Errors: ErrAway, those of ctx.
	Await(ctx context.Context, name string) error
}

// Lock is a lock that was taken.
type Lock interface {
	// Token is the fencing token: greater than that of whoever held the lock before.
	Token() uint64
	// Until is the time before which nobody else holds it, which is later each time that it
	// is renewed; by the clock of this process, which may have stood still with it.
	Until() time.Time
	// Lost is closed once another one may hold the lock: it was not renewed in time, or
	// is gone from where it was kept.
	Lost() <-chan struct{}
	// Unlock gives the lock back, unless it is another's by now. It may be called again.
	Unlock()
}

// MaxValue is how large a value of a Cache may be, in bytes.
const MaxValue = 64 << 10

// Cache keeps small values for all processes. It forgets as it likes: a value that
// cannot be had is a miss, whatever the reason. Its methods are safe for concurrent use.
type Cache interface {
	// Get gives the value that was set last, unless its time is over.
	Get(ctx context.Context, key string) (value []byte, ok bool)
	// Set keeps a value for ttl, in the place of what was set before. One that is larger
	// than MaxValue is not kept.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration)
	// Delete forgets a value.
	Delete(ctx context.Context, key string)
}

// Fresh is how old what a current subscription has heard of Redis may be. With what is
// announced by the store (see unannounced.go) it stays below the second within which
// changes are to show.
const Fresh = 700 * time.Millisecond

// Settling is how long Settle lets others act upon what they were told: after Fresh whoever
// was not told knows that, and who was has some hundred milliseconds more.
const Settling = time.Second

// Notify tells all other subscribers that something has changed.
type Notify interface {
	// Publish announces that what these keys name has changed. When it returns, each
	// other subscriber has been told, is about to be, or is not current.
	Publish(ctx context.Context, keys ...string)
	// Mention is Publish for what nobody relies on: where it cannot be told, or is more
	// than one message, nobody ever knows of it.
	Mention(ctx context.Context, keys ...string)
	// Settle returns once subscribers of this Notify have been told all that others
	// published before the call, and the others all that was published here, with some time
	// to act upon it; those who were not told are not current. Errors: ErrAway, where that is
	// not certain; those of ctx.
	Settle(ctx context.Context) error
	// Subscribe has changed called with the keys that others publish from now on, and
	// missed where anything may have changed. Neither may block; missed is called before
	// the subscription is current again. current reports whether all has been told that
	// was published until less than a second ago. It ends with the Notify itself.
	Subscribe(changed func(keys []string), missed func()) (current func() bool)
}
