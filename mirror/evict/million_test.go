package evict_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// many is a store of a million blobs that takes no memory for them.
type many struct{ evict.Store }

func nth(i uint64) digest.Digest {
	var b [32]byte
	binary.LittleEndian.PutUint64(b[:], i*0x9e3779b97f4a7c15) // spread over the shards
	binary.BigEndian.PutUint64(b[8:], i)
	return digest.NewDigestFromBytes(digest.SHA256, b[:])
}

func (many) Evictable(context.Context) iter.Seq2[origin.Evictable, error] {
	repos := thousand()
	return func(yield func(origin.Evictable, error) bool) {
		for i := range howMany() {
			info := store.Info{Digest: nth(i), Size: 1 << 20, Modified: time.Unix(int64(i%1000), 0)}
			if !yield(origin.Evictable{Info: info, Repos: repos[i/8%uint64(len(repos)):][:1]}, nil) {
				return
			}
		}
	}
}

// thousand are the repositories that the blobs are in, eight in a row together.
func thousand() (list []origin.Repo) {
	for i := range 1000 {
		repo, _ := origin.ParseRepo(fmt.Sprint("hub/r", i)) // it is a name
		list = append(list, repo)
	}
	return list
}

func (many) EvictFrom(context.Context, origin.Repo, digest.Digest) error { return nil }

func (many) Evict(context.Context, digest.Digest) error { return nil }

// howMany blobs there are: as many in each repository, so that nothing exceeds a quota before
// anything comes. The race detector makes each cost ten times as much: there are a million in
// `make crash`.
func howMany() uint64 {
	if raceDetector {
		return 48_000
	}
	return 1_000_000
}

// most is how many bytes of memory each blob may take: a million of them 300 MiB.
const most = 300 << 20 / 1_000_000

// A million blobs in 125,000 images are kept track of in 300 MiB of memory at any time: while
// they are listed, while they are used, and while that is written down; also where all of the
// thousand repositories that they are in have quotas. And to find what leaves takes no time.
func TestMillion(t *testing.T) {
	each := int64(howMany()/1000) << 20
	for name, limits := range map[string]evict.Limits{
		"budget": {MaxSize: int64(howMany()) << 20},
		"quotas": {Quota: func(origin.Repo) int64 { return each }},
	} {
		t.Run(name, func(t *testing.T) { million(t, limits) })
	}
}

func million(t *testing.T, limits evict.Limits) {
	repos := thousand()
	in := func(i uint64) origin.Repo { return repos[i/8%uint64(len(repos))] }
	peak := peaks(t)
	records := files{dir: t.TempDir()}
	start := func(limits evict.Limits) *evict.Cache {
		listed := make(heard)
		c := evict.New(many{}, records, evict.Options{Limits: limits, Log: slog.New(slog.NewTextHandler(listed, nil))})
		c.Start()
		<-listed
		if got, want := c.Bytes(), int64(howMany())<<20; got != want {
			t.Fatalf("%d bytes are known of %d", got, want)
		}
		return c
	}
	c := start(limits)
	peak("listed")
	for i := uint64(0); i < howMany(); i += 8 {
		var blobs []digest.Digest
		for j := range uint64(8) {
			blobs = append(blobs, nth(i+j))
		}
		c.Image(in(i), nth(howMany()+i), blobs)
	}
	peak("in images")
	began := time.Now()
	for i := range uint64(1000) {
		if err := c.Reserve(in(i), nth(2*howMany()+i), 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > time.Second && !raceDetector {
		t.Errorf("1000 reservations at the budget took %v", took)
	}
	c.Configure(evict.Limits{})
	began = time.Now()
	c.Configure(limits)
	t.Logf("limits where there were none took %v", time.Since(began).Round(time.Millisecond))
	peak("with limits anew")
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	peak("written down")
	// And the next process knows their use.
	c = start(evict.Limits{})
	peak("listed again")
	if use, ok := c.LastUse(nth(howMany() - 1)); !ok || time.Since(use) > time.Hour {
		t.Errorf("last use after a restart: %v, %v", use, ok)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// peaks gives what tells, and holds to the bound, how much of the heap was in use at most since
// it was called last, beyond what is in use now. Garbage counts until it is collected, which is
// when there is a tenth of the heap of it.
func peaks(t *testing.T) func(when string) {
	before := debug.SetGCPercent(10)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	var mu sync.Mutex
	inUse := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	base, peak := inUse(), uint64(0)
	looking := time.NewTicker(5 * time.Millisecond)
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-looking.C:
				mu.Lock()
				peak = max(peak, inUse())
				mu.Unlock()
			case <-done:
				return
			}
		}
	})
	t.Cleanup(func() { looking.Stop(); close(done); all.Wait() })
	return func(when string) {
		mu.Lock()
		defer mu.Unlock()
		took := max(peak, inUse()) - base
		t.Logf("until %s: %d MiB of heap at most", when, took>>20)
		if took > most*howMany() {
			t.Errorf("until %s: %d bytes for each blob, want %d", when, took/howMany(), most)
		}
		peak = 0
	}
}

// heard is a log that is closed when a cache says there that it is listed.
type heard chan struct{}

func (h heard) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("cache listed")) {
		close(h)
	}
	return len(line), nil
}

// files are records that take no memory.
type files struct {
	store.Records
	dir string
}

func (f files) name(key string) string {
	return filepath.Join(f.dir, strings.ReplaceAll(key, "/", "_"))
}

func (f files) Get(_ context.Context, key string) (store.Record, error) {
	data, err := os.ReadFile(f.name(key))
	if errors.Is(err, os.ErrNotExist) {
		return store.Record{}, store.ErrNotFound
	}
	return store.Record{Data: data, Version: "1"}, err
}

func (f files) Put(_ context.Context, key string, data []byte, _ store.Condition) (string, error) {
	return "1", os.WriteFile(f.name(key), data, 0o600)
}

var _ evict.Store = origin.Keeper(nil)
