package foreign

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Stat implements origin.Reader. What the registry said of a mirrored blob is
// remembered; where it cannot say, the blob is not there.
func (r *Registry) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	k := blobKey{repo, d}
	if desc, there, ok := r.blobs.get(k); ok {
		if there {
			return desc, nil
		}
		return origin.Descriptor{}, origin.ErrBlobUnknown
	}
	if !r.mirrored(repo) {
		desc, err := r.inner.Stat(ctx, repo, d)
		desc.Source = origin.Source{}
		return desc, told(err)
	}
	var desc origin.Descriptor
	since := r.blobs.now()
	err := r.quiet.ask(ctx, true, func(ctx context.Context) (err error) {
		desc, err = r.inner.Stat(ctx, repo, d)
		return err
	})
	return desc, r.heard(ctx, k, &desc, since, err)
}

// Blob implements origin.Reader. The whole is verified: its last bytes are withheld
// until its digest is found good.
func (r *Registry) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, rng store.Range) (origin.Blob, error) {
	if !r.mirrored(repo) {
		b, err := r.inner.Blob(ctx, repo, d, rng)
		b.Source = origin.Source{}
		return r.checked(b, blobKey{repo, d}), told(err)
	}
	k := blobKey{repo, d}
	if there, ok := r.blobs.lately(k); ok && !there {
		return origin.Blob{}, origin.ErrBlobUnknown
	}
	if !r.quiet.enter() {
		return origin.Blob{}, origin.Wrap(origin.ErrBlobUnknown, errSilent)
	}
	since := r.blobs.now()
	own, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(patience, func() { cancel(errSilent) })
	b, err := r.inner.Blob(own, repo, d, rng)
	if !late.Stop() && err == nil {
		err = errors.Join(context.Cause(own), b.Body.Close())
	}
	err = r.quiet.heard(ctx, own, err)
	if errors.Is(err, store.ErrRange) {
		cancel(nil)
		return origin.Blob{}, err
	}
	if err = r.heard(ctx, k, &b.Descriptor, since, err); err != nil {
		cancel(nil)
		return origin.Blob{}, err
	}
	b.Body = &bound{ReadCloser: b.Body, cancel: cancel}
	return r.checked(b, k), nil
}

// heard takes note of what the registry said of a mirrored blob, and gives the error
// for the mirror.
func (r *Registry) heard(ctx context.Context, k blobKey, desc *origin.Descriptor, since uint64, err error) error {
	desc.Source = origin.Source{}
	switch {
	case err == nil:
		r.seen(k, *desc, since)
		return nil
	case origin.Unknown(err):
		r.blobs.notThere(k, since)
		return told(err)
	case outage(ctx, err):
		r.log.Warn("the registry behind could not be asked for a mirrored blob",
			"repository", k.repo.String(), "digest", k.digest.String(), "error", err)
		return origin.Wrap(origin.ErrBlobUnknown, errors.New(err.Error()))
	default:
		return told(err)
	}
}

// seen takes note that a blob is there.
func (r *Registry) seen(k blobKey, desc origin.Descriptor, since uint64) {
	r.blobs.there(k, desc, since)
	r.holders.seen.Add(k.digest, held{k.repo, desc})
	r.deposits.arrived(k)
}

// missed takes note that a blob is not there any more.
func (r *Registry) missed(k blobKey) {
	r.blobs.forget(k)
	if h, ok := r.holders.seen.Peek(k.digest); ok && h.repo == k.repo {
		r.holders.seen.Remove(k.digest)
	}
}

// Holds implements origin.Holder: of what was seen in a repository lately.
func (r *Registry) Holds(_ context.Context, d digest.Digest) (origin.Descriptor, error) {
	h, ok := r.holders.seen.Get(d)
	if !ok {
		return origin.Descriptor{}, origin.ErrBlobUnknown
	}
	return h.descriptor, nil
}

// Mount implements origin.Writer. From the zero Repo it mounts from where the blob was
// seen.
func (r *Registry) Mount(ctx context.Context, from, to origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	h, seen := r.holders.seen.Get(d)
	if from.IsZero() && seen {
		from = h.repo
	}
	since := r.blobs.now()
	desc, err := r.inner.Mount(ctx, from, to, d)
	desc.Source = origin.Source{}
	switch {
	case err == nil:
		if seen && desc.Size <= 0 {
			desc.Size = h.descriptor.Size
		}
		r.seen(blobKey{to, d}, desc, since)
	case errors.Is(err, origin.ErrBlobUnknown), errors.Is(err, origin.ErrUnsupported):
		// Whatever the reason, the bytes have to be sent.
		return origin.Descriptor{}, origin.Wrap(origin.ErrBlobUnknown, errors.New(err.Error()))
	}
	return desc, told(err)
}

// Upload implements origin.Writer.
func (r *Registry) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	if id == "" && r.mirrored(repo) {
		var in store.Ingest
		err := r.quiet.ask(ctx, false, func(ctx context.Context) (err error) {
			// The upload outlives this call; its requests have contexts of their own.
			in, err = r.inner.Upload(ctx, repo, id, alg)
			return err
		})
		if err != nil {
			return nil, told(err)
		}
		return &upload{Ingest: in, registry: r, repo: repo}, nil
	}
	in, err := r.inner.Upload(ctx, repo, id, alg)
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
	since := u.registry.blobs.now()
	info, err := u.Ingest.Commit(ctx, d)
	if err != nil {
		return info, told(err)
	}
	desc := origin.Descriptor{}
	desc.MediaType, desc.Digest, desc.Size = "application/octet-stream", d, info.Size
	u.registry.seen(blobKey{u.repo, d}, desc, since)
	return info, nil
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
