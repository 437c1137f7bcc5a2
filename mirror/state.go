package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

const (
	// What is held in memory, in bytes. A manifest is some 2 KiB, an index of many
	// platforms some 10 KiB, a tag 0.5 KiB, and what a manifest names 2 KiB.
	tagBudget      = 4 << 20
	manifestBudget = 32 << 20
	namedBudget    = 16 << 20
	referrerBudget = 32 << 20
	// largest is the largest manifest held in memory, so that few of them do not displace
	// what many pull.
	largest = 64 << 10
	// sized is how many sizes of blobs are remembered from manifests: digests are short.
	sized = 1 << 16
	// naming is how many blobs a manifest may name for their list to be held in memory, for
	// the same reason. What people run names 20.
	naming = 500
	// nameCost is what a name takes beside its letters.
	nameCost = 16
	// writers is how many records are written at a time, and backlog how many may
	// wait before a fetch has to.
	writers, backlog = 4, 256
)

// tag is what is remembered of a tag.
type tag struct {
	MediaType string        `json:"media_type"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
	Checked   time.Time     `json:"checked"`  // when the upstream last said so
	Endpoint  string        `json:"endpoint"` // which one
}

// size is what it takes in memory, under k.
func (t tag) size(k tagKey) int {
	return len(k.repo.String()) + len(k.tag) + len(t.MediaType) + len(t.Digest) + len(t.Endpoint)
}

func (t tag) descriptor(s origin.Source) origin.Descriptor {
	return origin.Descriptor{Descriptor: v1.Descriptor{MediaType: t.MediaType, Digest: t.Digest, Size: t.Size}, Source: s}
}

type tagKey struct {
	repo origin.Repo
	tag  string
}

type contentKey struct {
	repo   origin.Repo
	digest digest.Digest
}

// state is a mirror's memory: records, and what of them is held in memory. Writes
// take effect in memory at once and are recorded behind the answer, in the order
// in which they were made for each key.
type state struct {
	records store.Records
	log     *slog.Logger

	tags      *held[tagKey, tag]
	manifests *held[contentKey, origin.Manifest]
	sizes     *lru.Cache[contentKey, int64] // what a manifest says is said of its own repository's blobs
	referrers *keptReferrers
	named     *held[digest.Digest, []digest.Digest] // blobs by their manifests
	coming    sync.Map                              // contentKey → origin.Manifest: too large for manifests, until they are recorded

	current func() bool   // whether others' writes are told of; nil: nobody else writes
	changes atomic.Uint64 // of records, by deletions and by others, for who reads one meanwhile

	mu     sync.Mutex
	queued map[string]int // what was put and is not recorded, by key; not what is deleted

	seed    maphash.Seed
	queues  [writers]chan func(context.Context)
	writing sync.WaitGroup
	closing sync.RWMutex // held for writing by close, for reading by who puts into a queue
	closed  bool
}

func newState(records store.Records, log *slog.Logger) *state {
	s := &state{
		records: records, log: log, queued: map[string]int{}, seed: maphash.MakeSeed(),
		tags:      newHeld[tagKey, tag](tagBudget),
		manifests: newHeld[contentKey, origin.Manifest](manifestBudget),
		named:     newHeld[digest.Digest, []digest.Digest](namedBudget),
	}
	s.sizes, _ = lru.New[contentKey, int64](sized) // fails only for a size below one
	s.referrers = newKeptReferrers(s)
	for i := range s.queues {
		s.queues[i] = make(chan func(context.Context), backlog)
		s.writing.Go(func() {
			for write := range s.queues[i] {
				write(context.Background()) // nobody waits for it, and close does
			}
		})
	}
	return s
}

// close writes what is still to be written. What is put after it is not recorded.
func (s *state) close() {
	s.closing.Lock()
	s.closed = true
	s.closing.Unlock()
	for _, q := range s.queues {
		close(q)
	}
	s.writing.Wait()
}

// put has hold take something into memory, and write record it behind the answer, after
// what is queued for key. Note is taken first that it will be: see forget.
func (s *state) put(key string, hold func(), write func(ctx context.Context) error) {
	s.mu.Lock()
	s.queued[key]++
	s.mu.Unlock()
	done := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.queued[key]--; s.queued[key] == 0 {
			delete(s.queued, key)
		}
	}
	hold()
	will := s.enqueue(key, func(ctx context.Context) {
		defer done()
		if err := write(ctx); err != nil {
			s.log.Error("state not recorded", "key", key, "error", err)
		}
	})
	if !will {
		done()
	}
}

// enqueue puts write behind those for key that were put before. It reports whether
// it will be done.
func (s *state) enqueue(key string, write func(ctx context.Context)) bool {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if !s.closed {
		s.queues[maphash.String(s.seed, key)%writers] <- write
	}
	return !s.closed
}

// Records are named mirror/<repository>/_t/<tag>, mirror/<repository>/_m/<alg>/<hex> and,
// what refers to a manifest, mirror/<repository>/_r/<alg>/<hex>. No component of a
// repository's name begins with "_".

func tagPrefix(repo origin.Repo) string { return "mirror/" + repo.String() + "/_t" }

func (k tagKey) String() string { return tagPrefix(k.repo) + "/" + k.tag }

func (k contentKey) String() string {
	return "mirror/" + k.repo.String() + "/_m/" + k.digest.Algorithm().String() + "/" + k.digest.Encoded()
}

// tag gives what is remembered of a tag. Errors: store.ErrNotFound.
func (s *state) tag(ctx context.Context, k tagKey) (tag, error) {
	if t, ok := s.tags.get(k); ok && s.holds(k.String) {
		return t, nil
	}
	reading := s.reading()
	rec, err := s.read(ctx, k.String())
	if err != nil {
		return tag{}, err
	}
	t, err := decodeTag(k.String(), rec.Data)
	if err != nil {
		return tag{}, s.usable(k.String(), err)
	}
	if now := time.Now(); t.Checked.After(now) {
		t.Checked = now // by the clock of a mirror that is ahead of ours
	}
	if !s.trusts() {
		return t, nil
	}
	// What was put meanwhile is newer than what was read.
	t = s.tags.getOrAdd(k, t, t.size(k))
	if reading.meanwhile() {
		s.forget(k.String(), func() { s.tags.remove(k) })
	}
	return t, nil
}

func (s *state) putTag(k tagKey, t tag) {
	s.put(k.String(), func() { s.tags.add(k, t, t.size(k)) }, s.recordTag(k, t))
}

// recordTag gives what records a tag.
func (s *state) recordTag(k tagKey, t tag) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		data, err := json.Marshal(t)
		if err == nil {
			_, err = s.records.Put(ctx, k.String(), data, store.Always())
		}
		return err
	}
}

// manifestHeader is the first line of a manifest's record; its bytes follow.
type manifestHeader struct {
	MediaType string `json:"media_type"`
	Endpoint  string `json:"endpoint"`
}

// manifest gives a manifest that is kept. Errors: store.ErrNotFound.
func (s *state) manifest(ctx context.Context, k contentKey) (origin.Manifest, error) {
	if m, ok := s.manifests.get(k); ok && s.holds(k.String) {
		return m, nil
	}
	if m, ok := s.coming.Load(k); ok {
		return m.(origin.Manifest), nil
	}
	reading := s.reading()
	rec, err := s.read(ctx, k.String())
	if err != nil {
		return origin.Manifest{}, err
	}
	m, err := decodeManifest(k, rec.Data)
	if err != nil {
		return origin.Manifest{}, s.usable(k.String(), err)
	}
	s.hold(k, m)
	if reading.meanwhile() {
		s.forget(k.String(), func() { s.manifests.remove(k) })
	}
	return m, nil
}

// decodeManifest reads the record of a manifest. Errors: store.ErrDamaged.
func decodeManifest(k contentKey, data []byte) (origin.Manifest, error) {
	line, content, _ := bytes.Cut(data, []byte("\n"))
	var header manifestHeader
	if err := json.Unmarshal(line, &header); err != nil {
		return origin.Manifest{}, fmt.Errorf("record %s: %w: %w", k, store.ErrDamaged, err)
	}
	if k.digest.Algorithm().FromBytes(content) != k.digest {
		return origin.Manifest{}, fmt.Errorf("record %s: %w", k, store.ErrDamaged)
	}
	return origin.Manifest{
		Descriptor: origin.Descriptor{Descriptor: v1.Descriptor{MediaType: header.MediaType, Digest: k.digest, Size: int64(len(content))}},
		Bytes:      content,
	}, nil
}

// hold takes a manifest into memory, and the sizes of what it names.
func (s *state) hold(k contentKey, m origin.Manifest) {
	m.Source = origin.Source{}
	if len(m.Bytes) <= largest {
		s.manifests.add(k, m, len(k.repo.String())+len(m.Digest)+len(m.MediaType)+len(m.Bytes))
	}
	blobs := blobsOf(m)
	for _, d := range blobs {
		s.sizes.Add(contentKey{k.repo, d.Digest}, d.Size)
	}
	if len(blobs) <= naming {
		names, size := digestsOf(blobs), len(k.digest)
		for _, d := range names {
			size += nameCost + len(d)
		}
		s.named.add(k.digest, names, size)
	}
}

// blobsOf gives the blobs that a manifest names. Upstreams may keep what weir cannot read:
// that names nothing.
func blobsOf(m origin.Manifest) []v1.Descriptor {
	content, _ := origin.ReadManifest(m.MediaType, m.Bytes)
	return content.Blobs
}

func digestsOf(blobs []v1.Descriptor) []digest.Digest {
	list := make([]digest.Digest, len(blobs))
	for i, d := range blobs {
		list[i] = d.Digest
	}
	return list
}

// putManifest keeps a manifest, and has done what else is to be done with it.
func (s *state) putManifest(k contentKey, m origin.Manifest, then func(ctx context.Context) error) {
	hold := func() {
		s.hold(k, m)
		if len(m.Bytes) > largest {
			large := m
			large.Source = origin.Source{}
			s.coming.Store(k, large) // or it would be fetched again by who comes before it is recorded
		}
	}
	record := s.recordManifest(k, m, then)
	s.put(k.String(), hold, func(ctx context.Context) error {
		defer s.coming.Delete(k)
		return record(ctx)
	})
}

// recordManifest gives what records a manifest, and does what else is to be done with it.
func (s *state) recordManifest(k contentKey, m origin.Manifest, then func(ctx context.Context) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		line, err := json.Marshal(manifestHeader{MediaType: m.MediaType, Endpoint: m.Source.Upstream})
		if err != nil {
			return err
		}
		data := append(append(line, '\n'), m.Bytes...)
		_, err = s.records.Put(ctx, k.String(), data, store.Always())
		return errors.Join(err, then(ctx))
	}
}

// size is the size of a blob that a manifest of its repository named, or -1.
func (s *state) size(k contentKey) int64 {
	if size, ok := s.sizes.Get(k); ok && size >= 0 {
		return size
	}
	return -1
}

// tagNames lists the tags of a repository that are remembered, after the tag after,
// also those that are still to be recorded.
func (s *state) tagNames(ctx context.Context, repo origin.Repo, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var held []string
		for _, k := range s.tags.keys() {
			if k.repo == repo && k.tag > after && s.holds(k.String) {
				held = append(held, k.tag)
			}
		}
		slices.Sort(held)
		prefix, from := tagPrefix(repo), ""
		if after != "" {
			from = prefix + "/" + after
		}
		for e, err := range s.records.List(ctx, prefix, from) {
			if err != nil {
				yield("", err)
				return
			}
			name := strings.TrimPrefix(e.Key, prefix+"/")
			for len(held) > 0 && held[0] <= name {
				if held[0] < name && !yield(held[0], nil) {
					return
				}
				held = held[1:]
			}
			if !yield(name, nil) {
				return
			}
		}
		for _, name := range held {
			if !yield(name, nil) {
				return
			}
		}
	}
}

// knows reports whether a tag of the repository is remembered.
func (s *state) knows(ctx context.Context, repo origin.Repo) bool {
	for _, err := range s.tagNames(ctx, repo, "") {
		return err == nil
	}
	return false
}

// dropTag forgets a tag. It reports whether it was remembered.
func (s *state) dropTag(ctx context.Context, k tagKey) (bool, error) {
	return s.drop(ctx, k.String(), func() bool { return s.tags.remove(k) })
}

// dropManifest forgets a manifest. It reports whether it was kept.
func (s *state) dropManifest(ctx context.Context, k contentKey) (bool, error) {
	_, large := s.coming.LoadAndDelete(k)
	had, err := s.drop(ctx, k.String(), func() bool { return s.manifests.remove(k) })
	return had || large, err
}

// drop lets go of what memory has, and deletes its record after the writes that are queued
// for it. Whoever has read the record before does not leave it in memory: it is let go
// again, unless something was put behind the deletion.
func (s *state) drop(ctx context.Context, key string, letGo func() bool) (bool, error) {
	had := letGo()
	err := s.now(ctx, key, func(ctx context.Context) error {
		err := s.records.Delete(ctx, key, store.Always())
		s.changes.Add(1)
		s.forget(key, func() { letGo() })
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return had, nil
	case errors.Is(err, errClosing), ctx.Err() != nil:
		return had, err
	default:
		return true, err
	}
}

// now has write done after the writes that are queued for its key, and waits for it.
func (s *state) now(ctx context.Context, key string, write func(ctx context.Context) error) error {
	done := make(chan error, 1)
	if !s.enqueue(key, func(ctx context.Context) { done <- write(ctx) }) {
		return errClosing
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
