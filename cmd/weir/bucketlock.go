package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/s3"
)

const (
	// bucketLockTTL is for how long nobody changes what a replica was changing that has
	// ended in the middle of it.
	bucketLockTTL = 10 * time.Second
	// bucketLockWait is how long a change waits for its turn: longer than for one who is gone.
	bucketLockWait = 15 * time.Second
	// bucketLockPatience is how long Redis may take: nothing else can be done without it.
	bucketLockPatience = 2 * time.Second
	// A lock that is held is asked for again after a random time, up to at first
	// leastLockPause and then twice as long each time, up to mostLockPause.
	leastLockPause = 4 * time.Millisecond
	mostLockPause  = 128 * time.Millisecond
)

// bucketLock is the lock of all replicas over a bucket that does not keep conditions on
// writes: an s3.Locker. It needs nothing that is kept in the bucket, for the first thing
// that replicas write there, the key that they share, needs the lock.
type bucketLock struct{ redis *coord.Redis }

// newBucketLock asks nobody yet: most buckets do not need it. Errors: an invalid URL.
func newBucketLock(c config.Redis) (bucketLock, error) {
	// The key makes a namespace, and no secret: nothing is believed of who holds a lock.
	// That Redis is away is logged by the client that replicas tell each other by.
	redis, err := coord.NewRedis(coord.RedisOptions{URL: c.URL.Value, Key: []byte("locks of buckets"), Patience: bucketLockPatience})
	return bucketLock{redis}, err
}

// Lock implements s3.Locker. Errors: origin.ErrUnavailable where Redis is away, or somebody
// holds the name for too long.
func (l bucketLock) Lock(ctx context.Context, name string) (s3.Lock, error) {
	waiting, cancel := context.WithTimeout(ctx, bucketLockWait)
	defer cancel()
	for limit := leastLockPause; ; limit = min(2*limit, mostLockPause) {
		lock, err := l.redis.TryLock(waiting, name, "", bucketLockTTL)
		if err == nil {
			return lock, nil
		}
		if _, held := errors.AsType[*coord.HeldError](err); held {
			timer := time.NewTimer(rand.N(limit))
			select {
			case <-timer.C:
				continue
			case <-waiting.Done():
				timer.Stop()
			}
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("lock %s: %w", name, context.Cause(ctx))
		}
		return nil, origin.Wrap(origin.Errorf(origin.ErrUnavailable, "nothing can be written now: try again"), err)
	}
}
