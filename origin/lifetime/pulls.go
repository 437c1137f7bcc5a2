package lifetime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"sync"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// saveEvery is how often pulls are written down.
const saveEvery = time.Hour

// Pulls remembers when images were pulled last, by tag or by digest: in memory at once,
// and in the store at most hourly and when the process ends. What it has written down is
// in records "pulled/<repo>/_/<0 to f>", each with a line per tag or digest: its name, and
// when it was pulled in unix milliseconds.
type Pulls struct {
	records store.Records
	there   origin.Retirer

	saving sync.RWMutex // what is being written down is nowhere else

	mu     sync.Mutex
	recent map[origin.Repo]map[string]int64 // not written down yet, by tag or digest
}

// pullShards is how many records a repository has.
const pullShards = 16

func shardOf(name string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return int(h.Sum32() % pullShards)
}

func keyPulls(repo origin.Repo, shard int) string { return fmt.Sprintf("pulled/%s/_/%x", repo, shard) }

// NewPulls remembers in those records. Of tags and manifests that are not in the registry
// any more it forgets.
func NewPulls(r store.Records, there origin.Retirer) *Pulls {
	return &Pulls{records: r, there: there, recent: map[origin.Repo]map[string]int64{}}
}

// Pulled takes note that an image is pulled now. It waits for nothing but memory.
func (p *Pulls) Pulled(repo origin.Repo, ref origin.Ref) {
	p.note(repo, ref.String(), time.Now().UnixMilli())
}

func (p *Pulls) note(repo origin.Repo, name string, at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := p.recent[repo]
	if names == nil {
		names = map[string]int64{}
		p.recent[repo] = names
	}
	names[name] = max(names[name], at)
}

// Keep writes down what there is each hour, until ctx ends.
func (p *Pulls) Keep(ctx context.Context, failed func(error)) {
	Every(ctx, saveEvery, func(ctx context.Context) {
		if err := p.Save(ctx); err != nil {
			failed(err)
		}
	})
}

// Save writes down what is not yet. What could not be written is still remembered.
func (p *Pulls) Save(ctx context.Context) error {
	p.saving.Lock()
	defer p.saving.Unlock()
	p.mu.Lock()
	recent := p.recent
	p.recent = map[origin.Repo]map[string]int64{}
	p.mu.Unlock()
	byKey := map[string]map[string]int64{}
	repos := map[string]origin.Repo{}
	for repo, names := range recent {
		for name, at := range names {
			key := keyPulls(repo, shardOf(name))
			if byKey[key] == nil {
				byKey[key], repos[key] = map[string]int64{}, repo
			}
			byKey[key][name] = at
		}
	}
	var errs []error
	for key, names := range byKey {
		err := p.add(ctx, repos[key], key, names)
		if err == nil {
			continue
		}
		const enough = 10
		if len(errs) < enough {
			errs = append(errs, fmt.Errorf("write down pulls of %s: %w", repos[key], err))
		}
		for name, at := range names {
			p.note(repos[key], name, at)
		}
	}
	return errors.Join(errs...)
}

// add adds to one record.
func (p *Pulls) add(ctx context.Context, repo origin.Repo, key string, names map[string]int64) error {
	for {
		rec, err := p.records.Get(ctx, key)
		is := store.Version(rec.Version)
		if errors.Is(err, store.ErrNotFound) {
			is, err = store.Absent(), nil
		}
		if err != nil {
			return err
		}
		known, err := parsePulls(rec)
		if err == nil {
			err = p.prune(ctx, repo, known)
		}
		if err != nil {
			return err
		}
		for name, at := range names {
			known[name] = max(known[name], at)
		}
		var text []byte
		for name, at := range known {
			text = fmt.Appendf(text, "%s %d\n", name, at)
		}
		if _, err = p.records.Put(ctx, key, text, is); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// prune takes out what is not there any more, of some: so a record does not grow without
// end in which tags come and go.
func (p *Pulls) prune(ctx context.Context, repo origin.Repo, known map[string]int64) error {
	const some = 64
	n := 0
	for name := range known { // in no order
		if n++; n > some {
			break
		}
		ref, err := origin.ParseRef(name)
		if err == nil {
			if ref.Tag() != "" {
				_, err = p.there.Tagged(ctx, repo, name)
			} else {
				_, err = p.there.Described(ctx, repo, ref.Digest())
			}
			if err != nil && !origin.Unknown(err) {
				return err
			}
		}
		if err != nil {
			delete(known, name)
		}
	}
	return nil
}

// errPulls says that a record is not as it was written.
var errPulls = fmt.Errorf("record of pulls: %w", store.ErrDamaged)

// parsePulls reads a record. Errors: errPulls.
//
// A time of 0 was written where a pull and the writing met: then it was pulled when that
// was written, or before.
func parsePulls(rec store.Record) (map[string]int64, error) {
	known := map[string]int64{}
	for line := range bytes.Lines(rec.Data) {
		name, at, ok := bytes.Cut(line, []byte(" "))
		at, whole := bytes.CutSuffix(at, []byte("\n"))
		ms, err := strconv.ParseInt(string(at), 10, 64)
		if !ok || !whole || err != nil || ms < 0 {
			return nil, errPulls
		}
		if ms == 0 {
			ms = rec.Modified.UnixMilli()
		}
		known[string(name)] = ms
	}
	return known, nil
}

// Last gives when a repository's tags and digests were pulled last.
func (p *Pulls) Last(ctx context.Context, repo origin.Repo) (map[string]time.Time, error) {
	p.saving.RLock()
	defer p.saving.RUnlock()
	last := map[string]time.Time{}
	for shard := range pullShards {
		rec, err := p.records.Get(ctx, keyPulls(repo, shard))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read pulls of %s: %w", repo, err)
		}
		known, err := parsePulls(rec)
		if err != nil {
			return nil, fmt.Errorf("read pulls of %s: %w", repo, err)
		}
		for name, at := range known {
			last[name] = time.UnixMilli(at)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, at := range p.recent[repo] {
		if t := time.UnixMilli(at); t.After(last[name]) {
			last[name] = t
		}
	}
	return last, nil
}
