package observe

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// mostUploads is how many uploads are known at a time; of more the one is forgotten that
// has waited longest.
const mostUploads = 4096

// Uploads is a registry that knows which uploads to it have begun and not ended: those
// that came through it, or another one over the same [OpenUploads]. What somebody else's
// process takes, or came before this one began, it knows from the next byte on.
type Uploads struct {
	origin.Registry
	name   func(ctx context.Context, repo origin.Repo) (origin.Repo, error)
	expiry time.Duration
	open   *OpenUploads
}

// OpenUploads are the uploads that have begun and not ended. They outlive a configuration,
// as the uploads do. The zero value has none; its methods are safe for concurrent use.
type OpenUploads struct {
	mu   sync.Mutex
	byID map[string]*Upload // the id that its client knows
}

// Count gives how many there are.
func (o *OpenUploads) Count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.byID)
}

// Upload is one that is not finished.
type Upload struct {
	Repo    origin.Repo // its full name
	Size    int64       // bytes that have come
	Begun   time.Time   // when it was first seen here
	Updated time.Time   // when bytes last came
}

// NewUploads watches the uploads to r, and takes them down in open. name gives the full
// name of a repository that is pushed to. An upload is forgotten when no byte has come for
// expiry.
func NewUploads(open *OpenUploads, r origin.Registry, name func(ctx context.Context, repo origin.Repo) (origin.Repo, error), expiry time.Duration) *Uploads {
	return &Uploads{Registry: r, name: name, expiry: expiry, open: open}
}

// Upload implements origin.Writer.
func (u *Uploads) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	in, err := u.Registry.Upload(ctx, repo, id, alg)
	if err != nil {
		return nil, err
	}
	full, err := u.name(ctx, repo)
	if err != nil {
		return in, nil // it is as good as any, and nobody would know whose it is
	}
	return watchedIngest{in, u.open, u.open.seen(in, full, u.expiry)}, nil
}

// seen takes down an upload to a repository, which is one that is known or begins.
func (o *OpenUploads) seen(in store.Ingest, repo origin.Repo, expiry time.Duration) *Upload {
	o.mu.Lock()
	defer o.mu.Unlock()
	of, known := o.byID[in.ID()]
	if !known {
		if o.byID == nil {
			o.byID = map[string]*Upload{}
		}
		of = &Upload{Repo: repo, Begun: time.Now()}
		o.makeRoom(of.Begun, expiry)
		o.byID[in.ID()] = of
	}
	of.Size, of.Updated = in.Size(), time.Now()
	return of
}

// makeRoom forgets what has expired, and more if it must. o.mu is held.
func (o *OpenUploads) makeRoom(now time.Time, expiry time.Duration) {
	if len(o.byID) < mostUploads {
		return
	}
	oldest := ""
	for id, of := range o.byID {
		switch {
		case now.Sub(of.Updated) > expiry:
			delete(o.byID, id)
		case oldest == "" || of.Updated.Before(o.byID[oldest].Updated):
			oldest = id
		}
	}
	if len(o.byID) >= mostUploads {
		delete(o.byID, oldest)
	}
}

// Open lists them, in the order of their repositories and of when they began.
func (u *Uploads) Open() []Upload {
	u.open.mu.Lock()
	defer u.open.mu.Unlock()
	list := make([]Upload, 0, len(u.open.byID))
	for _, of := range u.open.byID {
		if time.Since(of.Updated) <= u.expiry {
			list = append(list, *of)
		}
	}
	slices.SortFunc(list, func(a, b Upload) int {
		return cmp.Or(cmp.Compare(a.Repo.String(), b.Repo.String()), a.Begun.Compare(b.Begun))
	})
	return list
}

func (o *OpenUploads) ended(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.byID, id)
}

// watchedIngest tells how far it is. One request at a time has it.
type watchedIngest struct {
	store.Ingest
	uploads *OpenUploads
	of      *Upload
}

func (in watchedIngest) Write(p []byte) (int, error) {
	n, err := in.Ingest.Write(p)
	if err != nil { // it may be dropped now; if it is resumed, it is seen again
		in.uploads.ended(in.ID())
		return n, err
	}
	in.uploads.mu.Lock()
	defer in.uploads.mu.Unlock()
	in.of.Size, in.of.Updated = in.of.Size+int64(n), time.Now()
	return n, err
}

func (in watchedIngest) Commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	id := in.ID()
	info, err := in.Ingest.Commit(ctx, d)
	if err == nil || errors.Is(err, origin.ErrDigestInvalid) {
		in.uploads.ended(id)
	}
	return info, err
}

func (in watchedIngest) Cancel() error {
	in.uploads.ended(in.ID()) // no-op after Commit, as Cancel is
	return in.Ingest.Cancel()
}
