package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin/events"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/coord"
)

// keyPatience is how long weir waits, as it starts, for the key that its replicas share.
const keyPatience = 30 * time.Second

// leaseTTL is for how long nobody else fetches what a replica was fetching that is gone
// and has not said so; those who were reading from it fetch for themselves at once.
const leaseTTL = 10 * time.Second

// replicas are the other weirs over the same store. nil: there are none.
type replicas struct {
	redis *coord.Redis
	hops  *hops  // nil: this one does not say where it is
	marks []byte // the key of guards
}

// openReplicas prepares what replicas share, and gives the records by which they are told
// what this one writes. patience is coord's.
func openReplicas(c config.Redis, records store.Records, patience time.Duration, logs logs) (*replicas, store.Records, error) {
	if c.URL.IsZero() {
		return nil, records, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), keyPatience)
	defer cancel()
	key, err := coord.SharedKey(ctx, records)
	if err != nil {
		return nil, nil, err
	}
	redis, err := coord.NewRedis(coord.RedisOptions{URL: c.URL.Value, Key: key, Records: records, Patience: patience, Log: logs.room("store")})
	if err != nil {
		return nil, nil, err
	}
	r := &replicas{redis: redis, marks: coord.Derive(key, "marks")}
	if !c.Advertise.IsZero() {
		r.hops = newHops(c.Advertise.String(), coord.Derive(key, "hop"))
	}
	return r, coord.Announce(records, redis, followed), nil
}

// followed reports whether some replica keeps in memory what is recorded under key.
func followed(key string) bool {
	return strings.HasPrefix(key, "r/") || strings.HasPrefix(key, "mirror/") || strings.HasPrefix(key, events.Prefix)
}

// current reports whether this replica is told of what others write.
func (r *replicas) current() bool { return r.redis.Current() }

func (r *replicas) close() error {
	if r.hops != nil {
		r.hops.close()
	}
	return r.redis.Close()
}

// others is what tells a registry what other replicas write.
func (r *replicas) others() local.Others {
	if r == nil {
		return nil
	}
	return r.redis
}

// shared is what mirrors share.
func (r *replicas) shared() mirror.Shared {
	if r == nil {
		return nil
	}
	return sharedMemory{r.redis}
}

// sharedMemory is coord's for a mirror, which knows of locks no more than whether it has one.
type sharedMemory struct{ *coord.Redis }

// Take implements mirror.Shared.
func (s sharedMemory) Take(ctx context.Context, name string, ttl time.Duration) (release func(), held bool) {
	lock, err := s.TryLock(ctx, name, "", ttl)
	if err == nil {
		return lock.Unlock, false
	}
	_, held = errors.AsType[*coord.HeldError](err)
	return nil, held
}

// fills is how running fills are shared.
func (r *replicas) fills() fill.Replicas {
	if r == nil || r.hops == nil {
		return nil
	}
	return r
}

// Lead implements fill.Replicas.
func (r *replicas) Lead(ctx context.Context, key fill.Key) (release func(), leader string) {
	lock, err := r.redis.TryLock(ctx, leaseName(key), r.hops.own, leaseTTL)
	if err == nil {
		return lock.Unlock, ""
	}
	if held, ok := errors.AsType[*coord.HeldError](err); ok && held.Holder != r.hops.own {
		return nil, held.Holder
	}
	return nil, ""
}

// Await implements fill.Replicas.
func (r *replicas) Await(ctx context.Context, key fill.Key) error {
	return r.redis.Await(ctx, leaseName(key))
}

func leaseName(key fill.Key) string {
	return fmt.Sprintf("fill/%s/%s@%s", key.Upstream, key.Repo, key.Digest)
}

// Follow implements fill.Replicas.
func (r *replicas) Follow(ctx context.Context, leader string, key fill.Key, off, n int64) (fill.Stream, error) {
	return r.hops.ask(ctx, leader, key, off, n)
}
