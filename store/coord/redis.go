package coord

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/weir-registry/weir/store"
)

// format is in every name in Redis: a version of weir that means something else by a
// value has another one.
const format = "weir:1:"

// RedisOptions are the circumstances of a Redis.
type RedisOptions struct {
	// URL gives the server: redis://, rediss:// or unix://. It is asked again for the
	// user and the password of each new connection.
	URL func() (string, error)
	// Key is what all replicas have in common: see SharedKey.
	Key []byte
	// Records is the store of the replicas, which takes announcements that Redis does not.
	Records store.Records
	// Patience is how long one call may take; 0: Patience.
	Patience time.Duration
	// Log gets what an operator wants to know; nil discards it.
	Log *slog.Logger
}

// Redis is a Locker, a Cache and a Notify between processes that have a key in common.
// It works whether the server is there or not.
type Redis struct {
	client   *redis.Client
	patience time.Duration
	breaker  breaker
	prefix   string // of every name: of these replicas, and no others
	key      []byte
	id       string // of this process
	log      *slog.Logger

	unannounced unannounced

	end     context.CancelFunc
	running sync.WaitGroup
	base    time.Time
	heard   atomic.Int64                 // nanoseconds from base to when what has been told was all there was
	sub     atomic.Pointer[subscription] // nil: there is none

	mu          sync.Mutex
	subscribers []subscriber
	following   bool                                  // the subscription is kept up
	watching    bool                                  // and so is the look at what is unannounced
	waiting     map[string]map[chan struct{}]struct{} // by the names of the locks that they await
	ctx         context.Context                       // of what goes on until Close
}

var (
	_ Locker = (*Redis)(nil)
	_ Cache  = (*Redis)(nil)
	_ Notify = (*Redis)(nil)
)

// CheckURL tells by its error what is wrong with the URL of a server. It quotes nothing
// of it: there may be a password in it.
func CheckURL(url string) error {
	_, err := parseURL(url)
	return err
}

func parseURL(url string) (*redis.Options, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("it is no URL of a Redis server: redis://HOST:PORT, rediss:// with TLS, or unix:///PATH")
	}
	return o, nil
}

// NewRedis makes a Redis, and asks nobody yet. Errors: an invalid URL.
func NewRedis(o RedisOptions) (*Redis, error) {
	url, err := o.URL()
	if err != nil {
		return nil, fmt.Errorf("URL of Redis: %w", err)
	}
	options, err := parseURL(url)
	if err != nil {
		return nil, fmt.Errorf("URL of Redis: %w", err)
	}
	redis.SetLogger(&logging.VoidLogger{}) // what it has to say is in its errors
	options.CredentialsProviderContext = func(context.Context) (string, string, error) {
		url, err := o.URL()
		if err != nil {
			return "", "", err
		}
		now, err := parseURL(url)
		if err != nil {
			return "", "", err
		}
		return now.Username, now.Password, nil
	}
	options.Protocol = 2 // in which a pong on a subscription keeps its place among the messages
	options.MaxRetries, options.DialerRetries = -1, 1
	o.Patience = cmp.Or(o.Patience, Patience)
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = o.Patience, o.Patience, o.Patience
	options.PoolTimeout, options.ContextTimeoutEnabled = o.Patience, true
	options.PoolSize = 16
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, end := context.WithCancel(context.Background())
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	r := &Redis{
		client: redis.NewClient(options), patience: o.Patience,
		prefix: format + hex.EncodeToString(Derive(o.Key, "namespace")[:8]) + ":",
		key:    Derive(o.Key, "redis"),
		id:     hex.EncodeToString(id),
		log:    o.Log,
		base:   time.Now(),
		ctx:    ctx,
		end:    end,
	}
	r.waiting = map[string]map[chan struct{}]struct{}{}
	r.unannounced.records, r.unannounced.base, r.unannounced.soon = o.Records, r.base, make(chan struct{}, 1)
	r.heard.Store(-int64(Fresh))
	return r, nil
}

// Close ends all subscriptions, and lets go of the server. Locks that are held are lost.
func (r *Redis) Close() error {
	r.end()
	r.running.Wait()
	return r.client.Close()
}

// do makes one call of the server. Errors: those of ctx; redis.Nil and other replies of
// the server; ErrAway.
func (r *Redis) do(ctx context.Context, call func(ctx context.Context) error) error {
	if r.ctx.Err() != nil || !r.breaker.allow() {
		return ErrAway
	}
	limited, cancel := context.WithTimeout(ctx, r.patience)
	err := call(limited)
	cancel()
	_, replied := errors.AsType[redis.Error](err)
	if err != nil && !replied && ctx.Err() != nil {
		r.breaker.giveUp()
		return context.Cause(ctx)
	}
	well := err == nil || replied
	if r.breaker.report(well) && r.ctx.Err() == nil {
		if well {
			r.log.Info("redis is back")
		} else {
			r.log.Warn("redis is away: slower until it is back", "error", err)
		}
	}
	if !well {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return err
}
