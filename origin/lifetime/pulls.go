package lifetime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"sync"
	"sync/atomic"
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

	mu     sync.RWMutex
	recent map[pulled]*atomic.Int64 // not written down yet
}

// pulled is a tag or a digest of a repository.
type pulled struct {
	repo origin.Repo
	name string
}

// pullShards is how many records a repository has.
const pullShards = 16

func (p pulled) key() string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.name))
	return keyPulls(p.repo, int(h.Sum32()%pullShards))
}

func keyPulls(repo origin.Repo, shard int) string { return fmt.Sprintf("pulled/%s/_/%x", repo, shard) }

// NewPulls remembers in those records. Of tags and manifests that are not in the registry
// any more it forgets.
func NewPulls(r store.Records, there origin.Retirer) *Pulls {
	return &Pulls{records: r, there: there, recent: map[pulled]*atomic.Int64{}}
}

// Pulled takes note that an image is pulled now. It takes some ten nanoseconds.
func (p *Pulls) Pulled(repo origin.Repo, ref origin.Ref) {
	p.note(pulled{repo, ref.String()}, time.Now().UnixMilli())
}

func (p *Pulls) note(what pulled, at int64) {
	p.mu.RLock()
	last := p.recent[what]
	p.mu.RUnlock()
	if last == nil {
		p.mu.Lock()
		if last = p.recent[what]; last == nil {
			last = &atomic.Int64{}
			p.recent[what] = last
		}
		p.mu.Unlock()
	}
	for {
		was := last.Load()
		if was >= at || last.CompareAndSwap(was, at) {
			return
		}
	}
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
	p.recent = make(map[pulled]*atomic.Int64)
	p.mu.Unlock()
	byKey := map[string]map[string]int64{}
	repos := map[string]origin.Repo{}
	for what, at := range recent {
		key := what.key()
		if byKey[key] == nil {
			byKey[key], repos[key] = map[string]int64{}, what.repo
		}
		byKey[key][what.name] = at.Load()
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
			p.note(pulled{repos[key], name}, at)
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
		known, err := parsePulls(rec.Data)
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
var errPulls = errors.New("damaged record of pulls")

// parsePulls reads a record. Errors: errPulls.
func parsePulls(text []byte) (map[string]int64, error) {
	known := map[string]int64{}
	for line := range bytes.Lines(text) {
		name, at, ok := bytes.Cut(line, []byte(" "))
		at, whole := bytes.CutSuffix(at, []byte("\n"))
		ms, err := strconv.ParseInt(string(at), 10, 64)
		if !ok || !whole || err != nil || ms <= 0 {
			return nil, errPulls
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
		known, err := parsePulls(rec.Data)
		if err != nil {
			return nil, fmt.Errorf("read pulls of %s: %w", repo, err)
		}
		for name, at := range known {
			last[name] = time.UnixMilli(at)
		}
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	for what, at := range p.recent {
		if t := time.UnixMilli(at.Load()); what.repo == repo && t.After(last[what.name]) {
			last[what.name] = t
		}
	}
	return last, nil
}
