package s3

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/weir-registry/weir/store"
)

// A bucket that keeps no conditions looks at no token either. So the lock of all replicas is
// fenced by those who hold it, as well as that can be done: see DECISIONS.md of store, 28.

const (
	// inFlight is how long before the lock may be another's a request is given up that was
	// sent under it: it may arrive by then, and later only if it is under way for longer.
	inFlight = 3 * time.Second
	// fenced is what the middle of the nonce is of a cell that was written under a lock,
	// behind the lock's token in tokenLen digits.
	fenced   = "fe9ced10"
	tokenLen = 14
)

// errFenced says that nothing was written, since another one may hold the lock.
var errFenced = errors.New("store/s3: the lock was lost before anything was written")

// fencedNonce is a nonce that tells a token.
func fencedNonce(token uint64) string {
	return fmt.Sprintf("%0*x%s%s", tokenLen, token, fenced, newID()[tokenLen+len(fenced):])
}

// token is that of the lock under which the cell was written; 0: it was written under none.
func (c cell) token() uint64 {
	if !validID(c.nonce) || c.nonce[tokenLen:tokenLen+len(fenced)] != fenced {
		return 0
	}
	n, _ := strconv.ParseUint(c.nonce[:tokenLen], 16, 64) // they are digits
	return n
}

// writeLocked is write where the lock of all replicas stands in for conditions.
func (c *cells) writeLocked(ctx context.Context, w write, if_ store.Condition) (written cell, err error) {
	allows := func(is cell) error { return allowed(if_, is) }
	err = c.locked(ctx, w.key, allows, func(ctx context.Context, token uint64, _ cell) error {
		w := newWriteAs(fencedNonce(token), w.key, w.text.head[headerLen:], w.text.tail)
		etag, at, err := c.s.putObject(ctx, w.key, w.text, nil)
		written = cell{nonce: w.nonce, version: etag, modified: at}
		return err
	})
	if err != nil {
		return cell{}, err
	}
	return written, nil
}

// removeLocked is remove there.
func (c *cells) removeLocked(ctx context.Context, key string, if_ store.Condition) (was cell, err error) {
	allows := func(is cell) error {
		if is.version == "" {
			return store.ErrNotFound
		}
		return allowed(if_, is)
	}
	err = c.locked(ctx, key, allows, func(ctx context.Context, _ uint64, is cell) error {
		was = is
		return c.s.delete(ctx, key)
	})
	if err != nil {
		return cell{}, err
	}
	return was, nil
}

// allowed is store.ErrConflict where a condition does not hold for a cell.
func allowed(if_ store.Condition, is cell) error {
	if !if_.Allows(is.version != "", is.version) {
		return store.ErrConflict
	}
	return nil
}

// locked makes a change under the lock of a cell, if its state, which is the zero cell if
// nothing is there, is allowed. Who has lost the lock before he changed anything takes it
// again. Errors: those of allows, errFenced, errUncertain.
func (c *cells) locked(ctx context.Context, key string, allows func(is cell) error, change func(ctx context.Context, token uint64, is cell) error) error {
	seen := "" // a state that the lock was taken after
	for n := 0; ; n++ {
		is, err := c.lockedOnce(ctx, key, allows, seen, change)
		if !errors.Is(err, errFenced) || n == retries {
			return err
		}
		seen = is.version
	}
}

func (c *cells) lockedOnce(ctx context.Context, key string, allows func(is cell) error, seen string,
	change func(ctx context.Context, token uint64, is cell) error,
) (cell, error) {
	lock, err := c.locker.Lock(ctx, c.lockName(key))
	if err != nil {
		return cell{}, err
	}
	defer lock.Unlock()
	is, err := c.get(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, errDamaged) {
		return cell{}, err
	}
	// Where a token that was given later than the state was seen is the smaller one, whoever
	// gives them has begun anew with a clock that is behind, and nobody has lost anything.
	if is.token() > lock.Token() && is.version != seen {
		return is, errFenced
	}
	if err := allows(is); err != nil {
		return is, err
	}
	held, end := hold(ctx, lock)
	defer end()
	if held.Err() != nil {
		return is, context.Cause(held)
	}
	err = change(held, lock.Token(), is)
	if err != nil && errors.Is(context.Cause(held), errFenced) {
		err = fmt.Errorf("%w: the lock was lost: %w", errUncertain, err)
	}
	return is, err
}

// hold gives what a request is sent under that needs the lock: it ends, by errFenced, inFlight
// before another one may hold it.
func hold(ctx context.Context, lock Lock) (context.Context, context.CancelFunc) {
	held, cancel := context.WithCancelCause(ctx)
	left := func() time.Duration {
		select {
		case <-lock.Lost():
			return 0
		default:
			return time.Until(lock.Until()) - inFlight
		}
	}
	if left() <= 0 {
		cancel(errFenced)
	}
	go func() {
		for n := left(); held.Err() == nil; n = left() {
			if n <= 0 {
				cancel(errFenced)
				return
			}
			timer := time.NewTimer(n)
			select {
			case <-timer.C:
			case <-lock.Lost():
			case <-held.Done():
			}
			timer.Stop()
		}
	}()
	return held, func() { cancel(nil) }
}

// lockName names a cell among all that replicas lock.
func (c *cells) lockName(key string) string { return "s3/" + c.s.bucket + "/" + c.s.prefix + key }
