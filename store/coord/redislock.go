package coord

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// What is done to a lock is done at once, by scripts. What is no string there is no lock.
const (
	// take gives a token and sets the lock, or gives what the lock is. A token is never
	// given twice, also if the server forgets everything: it is at least its time in
	// microseconds.
	take = `
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' then return {0, held} end
local now = redis.call('TIME')
local token = now[1] * 1000000 + now[2]
local last = tonumber(redis.pcall('GET', KEYS[2]))
if last and last >= token then token = last + 1 end
redis.call('SET', KEYS[2], string.format('%.0f', token))
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {token, ''}`
	renew = `
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`
	// unlock tells those who await it, if there are any.
	unlock = `
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if redis.call('DEL', KEYS[2]) == 1 then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
return 1`
)

// nonceLen is how many random bytes make a lock's value another one than before.
const nonceLen = 16

// TryLock implements Locker.
func (r *Redis) TryLock(ctx context.Context, name, holder string, ttl time.Duration) (Lock, error) {
	nonce := make([]byte, nonceLen)
	_, _ = rand.Read(nonce) // never fails
	l := &redisLock{
		redis: r, name: name, key: r.prefix + "l:" + name, ttl: ttl,
		value: string(seal(r.key, "lock", name, append(nonce, holder...))),
		lost:  make(chan struct{}), end: make(chan struct{}),
	}
	asked := time.Now()
	var reply []any
	err := r.do(ctx, func(ctx context.Context) (err error) {
		reply, err = r.client.Eval(ctx, take, []string{l.key, r.prefix + "fence"}, l.value, ttl.Milliseconds()).Slice()
		return err
	})
	switch {
	case err != nil && ctx.Err() == nil && !errors.Is(err, ErrAway): // it has said something else
		err = fmt.Errorf("%w: %w", ErrAway, err)
		fallthrough
	case err != nil:
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	token, held, ok := parseTaken(reply)
	switch {
	case !ok:
		return nil, fmt.Errorf("lock %s: %w: no answer of ours", name, ErrAway)
	case token == 0:
		said := &HeldError{Name: name}
		if v, ok := unseal(r.key, "lock", name, []byte(held)); ok && len(v) >= nonceLen {
			said.Holder = string(v[nonceLen:])
		}
		return nil, said
	}
	l.token = token
	l.until.Store(int64(asked.Add(ttl).Sub(r.base)))
	r.running.Go(l.keep)
	return l, nil
}

func parseTaken(reply []any) (token uint64, held string, ok bool) {
	if len(reply) != 2 {
		return 0, "", false
	}
	n, isInt := reply[0].(int64)
	held, isString := reply[1].(string)
	return uint64(n), held, isInt && isString && n >= 0
}

type redisLock struct {
	redis *Redis
	name  string
	key   string
	value string
	ttl   time.Duration
	token uint64
	until atomic.Int64 // nanoseconds from the base of redis
	lost  chan struct{}
	end   chan struct{}
	once  sync.Once
}

func (l *redisLock) Token() uint64         { return l.token }
func (l *redisLock) Lost() <-chan struct{} { return l.lost }

// Until implements Lock. The server counts from when it was asked, or later.
func (l *redisLock) Until() time.Time { return l.redis.base.Add(time.Duration(l.until.Load())) }

// lose says that another one may hold the lock.
func (l *redisLock) lose() {
	l.until.Store(0)
	close(l.lost)
}

// keep renews the lock until it is given back or lost.
func (l *redisLock) keep() {
	next := l.ttl / 3
	for {
		timer := time.NewTimer(min(next, time.Until(l.Until())))
		select {
		case <-timer.C:
		case <-l.end:
			timer.Stop()
			return
		case <-l.redis.ctx.Done():
			timer.Stop()
			l.lose()
			return
		}
		asked := time.Now()
		if !asked.Before(l.Until()) {
			l.lose()
			return
		}
		switch n, err := l.redis.script(renew, []string{l.key}, l.value, l.ttl.Milliseconds()); {
		case err != nil:
			next = l.ttl / 10
		case n == 0:
			l.lose()
			return
		default:
			l.until.Store(int64(asked.Add(l.ttl).Sub(l.redis.base)))
			next = l.ttl / 3
		}
	}
}

// Unlock implements Lock.
func (l *redisLock) Unlock() {
	l.once.Do(func() {
		close(l.end)
		// What is not given back ends by itself.
		_, _ = l.redis.script(unlock, []string{l.key, l.redis.awaitKey(l.name)}, l.value, l.redis.freedChannel(), l.name)
	})
}

func (r *Redis) script(text string, keys []string, args ...any) (n int64, err error) {
	err = r.do(context.Background(), func(ctx context.Context) (err error) {
		n, err = r.client.Eval(ctx, text, keys, args...).Int64()
		return err
	})
	return n, err
}
