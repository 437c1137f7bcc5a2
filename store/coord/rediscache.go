package coord

import (
	"context"
	"encoding/binary"
	"time"
)

// Get implements Cache.
func (r *Redis) Get(ctx context.Context, key string) (value []byte, ok bool) {
	var sealed []byte
	err := r.do(ctx, func(ctx context.Context) (err error) {
		sealed, err = r.client.Get(ctx, r.prefix+"c:"+key).Bytes()
		return err
	})
	if err != nil {
		return nil, false
	}
	v, ok := unseal(r.key, "value", key, sealed)
	if !ok || len(v) < 8 {
		return nil, false
	}
	// The time is in what is sealed: nobody keeps a value alive who could not make it.
	until := time.UnixMilli(int64(binary.BigEndian.Uint64(v)))
	return v[8:], time.Now().Before(until)
}

// Set implements Cache.
func (r *Redis) Set(ctx context.Context, key string, value []byte, ttl time.Duration) {
	if len(value) > MaxValue || ttl < time.Millisecond {
		r.Delete(ctx, key)
		return
	}
	until := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(ttl).UnixMilli()))
	_ = r.do(ctx, func(ctx context.Context) error { // what is not kept is a miss
		return r.client.Set(ctx, r.prefix+"c:"+key, seal(r.key, "value", key, append(until, value...)), ttl).Err()
	})
}

// Delete implements Cache.
func (r *Redis) Delete(ctx context.Context, key string) {
	_ = r.do(ctx, func(ctx context.Context) error { // what is left ends by itself
		return r.client.Del(ctx, r.prefix+"c:"+key).Err()
	})
}
