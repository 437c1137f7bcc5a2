package foreign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// A link says that a mirrored blob was put into the registry for a repository. What
// has none is not read there, whatever the registry would give: not every one keeps
// the blobs of its repositories apart, and the right to read one is that of an
// upstream's repository.
//
// Links are records, link/<repository>/_b/<alg>/<hex>.

// rememberedLinks is how many links are held in memory.
const rememberedLinks = 1 << 16

type link struct {
	Size int64 `json:"size"` // bytes; -1: not known
}

type links struct {
	records store.Records
	held    *lru.Cache[blobKey, link]
	// seen is for a digest one repository that has it, so that others need not be sent
	// the same bytes.
	seen *lru.Cache[digest.Digest, origin.Repo]
}

func newLinks(records store.Records) *links {
	// New fails only for a size below one.
	held, _ := lru.New[blobKey, link](rememberedLinks)
	seen, _ := lru.New[digest.Digest, origin.Repo](rememberedLinks)
	return &links{records: records, held: held, seen: seen}
}

func (k blobKey) link() string {
	return "link/" + k.repo.String() + "/_b/" + k.digest.Algorithm().String() + "/" + k.digest.Encoded()
}

// find gives the link of a blob. Errors: ErrBlobUnknown.
func (l *links) find(ctx context.Context, k blobKey) (link, error) {
	if x, ok := l.held.Get(k); ok {
		return x, nil
	}
	rec, err := l.records.Get(ctx, k.link())
	if errors.Is(err, store.ErrNotFound) {
		return link{}, origin.ErrBlobUnknown
	}
	if err != nil {
		return link{}, fmt.Errorf("link of %s in %s: %w", k.digest, k.repo, err)
	}
	x := link{Size: -1}
	if err := json.Unmarshal(rec.Data, &x); err != nil {
		return link{}, origin.Wrap(origin.ErrBlobUnknown, fmt.Errorf("record %s: %w", k.link(), err)) // it will be put anew
	}
	l.hold(k, x)
	return x, nil
}

func (l *links) hold(k blobKey, x link) {
	l.held.Add(k, x)
	l.seen.Add(k.digest, k.repo)
}

// put records a link.
func (l *links) put(ctx context.Context, k blobKey, x link) error {
	data, err := json.Marshal(x)
	if err != nil {
		return err
	}
	if _, err := l.records.Put(ctx, k.link(), data, store.Always()); err != nil {
		return fmt.Errorf("link of %s in %s: %w", k.digest, k.repo, err)
	}
	l.hold(k, x)
	return nil
}

// drop forgets a link.
func (l *links) drop(ctx context.Context, k blobKey) error {
	l.held.Remove(k)
	if in, ok := l.seen.Peek(k.digest); ok && in == k.repo {
		l.seen.Remove(k.digest)
	}
	err := l.records.Delete(context.WithoutCancel(ctx), k.link(), store.Always())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("link of %s in %s: %w", k.digest, k.repo, err)
	}
	return nil
}

// spoiltFor is how long a blob is not asked for again that was found bad, whatever was
// put there since: a registry may keep what it has.
const spoiltFor = time.Hour

// spoilt are the blobs that were found bad, or could not be had.
type spoilt struct {
	until *lru.Cache[blobKey, time.Time]
}

func newSpoilt() spoilt {
	until, _ := lru.New[blobKey, time.Time](1024)
	return spoilt{until}
}

func (s spoilt) is(k blobKey) bool {
	until, ok := s.until.Peek(k)
	return ok && time.Now().Before(until)
}
