package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/s3"
)

const (
	// spoolDir is where running fills are kept, below the root of the blobs: there a
	// finished one becomes a blob without a copy. Where blobs are in a bucket it is below
	// the bucket's spool.
	spoolDir = "spool"
	// openBucket is how long a bucket may take to say what it is able to do.
	openBucket = time.Minute
	// leastOrphan is the least age at which what nobody speaks of in a bucket is removed:
	// a commit that is under way is younger.
	leastOrphan = time.Hour
)

// opened is an opened backend.
type opened struct {
	blobs   store.Blobs
	records store.Records
	// space tells how much is free there; nil: there is no end to it.
	space func() (free, total int64, err error)
}

// openStore opens the places of blobs and records; they may be one. space tells how much
// is free where the blobs are, and is nil where that has no end.
func (k *kept) openStore(c config.Store, metrics *observe.Metrics, log *slog.Logger) (b store.Blobs, r store.Records, space func() (free, total int64, err error), err error) {
	blobs, err := k.openPlace(c.Blobs, c.Redis, metrics, log)
	if err != nil {
		return nil, nil, nil, err
	}
	records := blobs
	if !samePlace(c.Blobs, c.Metadata) {
		if records, err = k.openPlace(c.Metadata, c.Redis, metrics, log); err != nil {
			return nil, nil, nil, err
		}
	}
	// Whoever holds the directory of the records is alone with them; a bucket is nobody's.
	k.sole = c.Metadata.S3.Bucket == ""
	return blobs.blobs, records.records, blobs.space, nil
}

// samePlace reports whether two backends are one directory, or one part of a bucket.
func samePlace(a, b config.Backend) bool {
	if a.S3.Bucket == "" || b.S3.Bucket == "" {
		return a.S3.Bucket == b.S3.Bucket && a.Filesystem.Root == b.Filesystem.Root
	}
	return a.S3.Bucket == b.S3.Bucket && a.S3.Prefix == b.S3.Prefix && a.S3.Endpoint == b.S3.Endpoint
}

func (k *kept) openPlace(c config.Backend, redis config.Redis, metrics *observe.Metrics, log *slog.Logger) (opened, error) {
	if c.S3.Bucket != "" {
		return k.openBucket(c.S3, redis, metrics, log)
	}
	o := disk.Options{FS: countSyncs(metrics)}
	if n := len(k.stores); n < len(k.ids) {
		o.ID = k.ids[n]
	}
	s, err := disk.Open(c.Filesystem.Root, o)
	if err != nil {
		return opened{}, err
	}
	k.stores = append(k.stores, s)
	k.closers = append(k.closers, s.Close)
	return opened{metrics.Blobs(filesystem, s.Blobs()), metrics.Records(filesystem, s.Records()), s.Space}, nil
}

// openBucket opens one. Where it does not keep conditions on writes, locks in redis stand in
// for them; without any it is refused.
func (k *kept) openBucket(c config.S3, redis config.Redis, metrics *observe.Metrics, log *slog.Logger) (opened, error) {
	o := s3.Options{
		Bucket: c.Bucket, Region: c.Region, Endpoint: c.Endpoint.String(), Prefix: c.Prefix, PathStyle: c.PathStyle,
		AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey.Value, PublicEndpoint: c.PublicEndpoint.String(),
		PartSize: int64(c.PartSize), Spool: c.Spool, Around: observe.Transport("s3"), Log: log,
	}
	if !redis.URL.IsZero() {
		lock, err := newBucketLock(redis)
		if err != nil {
			return opened{}, err
		}
		k.closers = append(k.closers, lock.redis.Close)
		o.Locker = lock
	}
	ctx, cancel := context.WithTimeout(context.Background(), openBucket)
	defer cancel()
	s, err := s3.Open(ctx, o)
	if errors.Is(err, s3.ErrConditions) {
		return opened{}, fmt.Errorf("%w: set store.redis.url, the same for each weir over this bucket, and its locks do", err)
	}
	if err != nil {
		return opened{}, err
	}
	k.buckets = append(k.buckets, s)
	k.closers = append(k.closers, s.Close)
	return opened{blobs: metrics.Blobs(inBucket, s.Blobs()), records: metrics.Records(inBucket, s.Records())}, nil
}

// openSpools opens the local directory of running fills.
func (k *kept) openSpools(c config.Backend) (*fill.Spools, error) {
	dir := filepath.Join(c.Filesystem.Root, spoolDir)
	var own *ownSpool
	switch {
	case c.S3.Bucket == "":
	case c.S3.Spool != "":
		dir = filepath.Join(c.S3.Spool, spoolDir)
	default:
		// One of its own: another weir of this machine has the same temporary directory.
		var err error
		if own, err = newSpool(os.TempDir()); err != nil {
			return nil, err
		}
		dir = own.dir
	}
	spools, err := fill.OpenSpools(dir)
	if err != nil {
		if own != nil {
			err = errors.Join(err, own.release())
		}
		return nil, err
	}
	k.closers = append(k.closers, spools.Close)
	if own != nil {
		spools.Hold(own.hold)
		k.closers = append(k.closers, own.release)
	}
	return spools, nil
}

// sweepBuckets removes what processes have left in buckets that ended in the middle.
func (a *app) sweepBuckets(ctx context.Context) {
	before := time.Now().Add(-max(a.config.Origin.UploadExpiry.Std(), leastOrphan))
	for _, s := range a.buckets {
		if err := s.Sweep(ctx, before); err != nil && ctx.Err() == nil {
			a.log.Error("what is left in the bucket not swept", "error", err)
		}
	}
}

// redirects reports for which repositories clients may be sent to the bucket; nil: for
// none. What needs credentials at an upstream is not given by an address that anyone can
// use, unless anyone may have it.
func redirects(c *config.Config) func(full origin.Repo, upstream string) bool {
	if !c.Store.Blobs.S3.Redirecting() {
		return nil
	}
	closed := map[string]bool{}
	for _, u := range c.Mirror.Upstreams {
		closed[u.Name] = u.NeedsCredentials() && !u.Public
	}
	may := c.Redirects()
	return func(full origin.Repo, upstream string) bool { return !closed[upstream] && may(full) }
}

// redirectTTL is how long the addresses are good that clients are sent to; 0: they are
// sent nowhere.
func redirectTTL(c config.S3) time.Duration {
	if !c.Redirecting() {
		return 0
	}
	return c.RedirectTTL.Std()
}
