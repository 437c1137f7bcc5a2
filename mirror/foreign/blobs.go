package foreign

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Stat implements origin.Reader. A mirrored blob is there if its link is: the registry
// is not asked.
func (r *Registry) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	if r.mirrored(repo) {
		x, err := r.linked(ctx, blobKey{repo, d})
		return describe(d, x.Size), err
	}
	desc, err := r.inner.Stat(ctx, repo, d)
	desc.Source = origin.Source{}
	return desc, told(err)
}

// linked gives the link of a mirrored blob that can be had, as far as is known. One that
// could not be had a moment ago is not there for those who look again either: the mirror
// is about to fetch it elsewhere.
func (r *Registry) linked(ctx context.Context, k blobKey) (link, error) {
	if r.spoilt.is(k) || r.reads.away() {
		return link{}, origin.ErrBlobUnknown
	}
	return r.links.find(ctx, k)
}

func describe(d digest.Digest, size int64) origin.Descriptor {
	return origin.Descriptor{Descriptor: v1.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}}
}

// Blob implements origin.Reader. The whole is verified: its last bytes are withheld
// until its digest is found good. A mirrored blob that the registry cannot give is not
// there.
func (r *Registry) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, rng store.Range) (origin.Blob, error) {
	k := blobKey{repo, d}
	if !r.mirrored(repo) {
		b, err := r.inner.Blob(ctx, repo, d, rng)
		b.Source = origin.Source{}
		return r.checked(b, k), told(err)
	}
	x, err := r.linked(ctx, k)
	if err != nil {
		return origin.Blob{}, err
	}
	if x.Size >= 0 && !rng.Whole() {
		// Not every registry knows all the ways to ask for a range: this one they do.
		if rng.Off, rng.Len, err = rng.Resolve(x.Size); err != nil {
			return origin.Blob{}, err
		}
	}
	b, err := r.open(ctx, k, rng)
	switch {
	case err == nil:
		r.deposits.arrived(k)
		return r.checked(b, k), nil
	case ctx.Err() != nil, errors.Is(err, store.ErrRange):
		return origin.Blob{}, err
	case origin.Unknown(err):
		return origin.Blob{}, errors.Join(told(err), r.links.drop(ctx, k))
	default:
		r.spoilt.until.Add(k, time.Now().Add(pause))
		r.log.Warn("a mirrored blob is not to be had from the registry behind",
			"repository", repo.String(), "digest", d.String(), "error", err)
		return origin.Blob{}, origin.Wrap(origin.ErrBlobUnknown, errors.New(err.Error()))
	}
}

// open asks for a mirrored blob. The wait for an answer is short.
func (r *Registry) open(ctx context.Context, k blobKey, rng store.Range) (origin.Blob, error) {
	if !r.reads.enter() {
		return origin.Blob{}, errSilent
	}
	own, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(patience, func() { cancel(errSilent) })
	b, err := r.inner.Blob(own, k.repo, k.digest, rng)
	if !late.Stop() && err == nil {
		err = errors.Join(errSilent, b.Body.Close()) // own ends now, or has
	}
	if err = r.reads.heard(ctx, own, err); err != nil {
		cancel(nil)
		return origin.Blob{}, err
	}
	b.Source = origin.Source{}
	b.Body = &bound{ReadCloser: b.Body, cancel: cancel}
	return b, nil
}

// Holds implements origin.Holder: of what was put or read lately. A registry that is away
// holds nothing, since nothing can be mounted.
func (r *Registry) Holds(ctx context.Context, d digest.Digest) (origin.Descriptor, error) {
	repo, ok := r.links.seen.Get(d)
	if !ok || r.reads.away() || r.writes.away() {
		return origin.Descriptor{}, origin.ErrBlobUnknown
	}
	return r.Stat(ctx, repo, d)
}

// Mount implements origin.Writer. From the zero Repo it mounts from a mirrored one that
// has the blob, if one is known.
func (r *Registry) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	if in, ok := r.links.seen.Get(d); ok && from.IsZero() {
		from = in
	}
	x := link{Size: -1}
	if !from.IsZero() && r.mirrored(from) {
		var err error
		if x, err = r.linked(ctx, blobKey{from, d}); err != nil {
			return origin.Descriptor{}, err
		}
	}
	var desc origin.Descriptor
	mount := func(ctx context.Context) (err error) {
		desc, err = r.inner.Mount(ctx, from, to, d)
		return err
	}
	var err error
	if r.mirrored(to) {
		err = r.writes.ask(ctx, true, mount)
	} else {
		err = mount(ctx)
	}
	switch {
	case err == nil:
	case ctx.Err() == nil && (r.mirrored(to) || errors.Is(err, origin.ErrUnsupported)):
		// Whatever the reason: the bytes can be sent.
		return origin.Descriptor{}, origin.Wrap(origin.ErrBlobUnknown, errors.New(err.Error()))
	default:
		return origin.Descriptor{}, told(err)
	}
	if desc.Size < 0 {
		desc.Size = x.Size
	}
	desc.Source = origin.Source{}
	return desc, r.arrived(ctx, blobKey{to, d}, desc.Size)
}

// arrived takes note that a blob was put there.
func (r *Registry) arrived(ctx context.Context, k blobKey, size int64) error {
	if !r.mirrored(k.repo) {
		return nil
	}
	if err := r.links.put(ctx, k, link{Size: size}); err != nil {
		return err
	}
	r.deposits.arrived(k)
	return nil
}

// Upload implements origin.Writer.
func (r *Registry) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	var in store.Ingest
	begin := func(ctx context.Context) (err error) {
		in, err = r.inner.Upload(ctx, repo, id, alg)
		return err
	}
	var err error
	if id == "" && r.mirrored(repo) {
		err = r.writes.ask(ctx, false, begin)
	} else {
		err = begin(ctx)
	}
	if err != nil {
		return nil, told(err)
	}
	return &upload{Ingest: in, registry: r, repo: repo}, nil
}

// upload takes note of what is committed.
type upload struct {
	store.Ingest
	registry *Registry
	repo     origin.Repo
}

func (u *upload) Write(p []byte) (int, error) {
	n, err := u.Ingest.Write(p)
	return n, told(err)
}

func (u *upload) Commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	info, err := u.Ingest.Commit(ctx, d)
	if err != nil {
		return info, told(err)
	}
	return info, u.registry.arrived(ctx, blobKey{u.repo, d}, info.Size)
}

// bound is a body whose context ends with it.
type bound struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *bound) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
