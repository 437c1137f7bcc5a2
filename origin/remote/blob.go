package remote

import (
	"context"
	"fmt"
	"math"
	"net/http"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/store"
)

// Stat implements origin.Reader with a HEAD, or where there is none with a GET
// whose body is not read.
func (r *Registry) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	a, err := r.ask(ctx, repo, egress.Request{Method: http.MethodHead, URL: r.at(repo, "blobs", d.String())})
	if err != nil {
		return origin.Descriptor{}, r.failure(ctx, origin.ErrBlobUnknown, err)
	}
	defer a.Discard()
	switch a.StatusCode {
	case http.StatusOK:
		err = r.sound(a, d)
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		b, err := r.Blob(ctx, repo, d, store.Range{})
		if err != nil {
			return origin.Descriptor{}, err
		}
		return b.Descriptor, b.Body.Close()
	default:
		err = a.refusal()
	}
	if err != nil {
		return origin.Descriptor{}, r.failure(ctx, origin.ErrBlobUnknown, err)
	}
	return r.blob(d, a.ContentLength), nil
}

// Blob implements origin.Reader. The body is the upstream's and not verified; it
// is bound to ctx. Its errors are those of this package, and io.ErrUnexpectedEOF
// in one of them if it ended before its length; a range that begins behind the
// end of a blob of unknown size is found out when the body is read.
func (r *Registry) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, rng store.Range) (origin.Blob, error) {
	return r.fetch(ctx, repo, d, rng, r.cut)
}

// Stretch implements origin.Ranger: an answer with the whole blob is given as it
// is, from its first byte on. All else is as in Blob.
func (r *Registry) Stretch(ctx context.Context, repo origin.Repo, d digest.Digest, rng store.Range) (origin.Blob, error) {
	return r.fetch(ctx, repo, d, rng, r.uncut)
}

// whole makes a blob of an answer that is all of it, where a range was asked for.
type whole func(a *answer, d digest.Digest, rng store.Range, fails func(error) error) (origin.Blob, error)

// fetch asks for a range of a blob: where the endpoint redirected the last one to,
// if that was lately, or else the endpoint.
func (r *Registry) fetch(ctx context.Context, repo origin.Repo, d digest.Digest, rng store.Range, all whole) (origin.Blob, error) {
	if rng.Len < 0 {
		return origin.Blob{}, store.ErrRange
	}
	rng.Off = max(rng.Off, -math.MaxInt64)
	if rng.Off > math.MaxInt64-rng.Len {
		rng.Len = 0 // to the end, whatever it is
	}
	q := egress.Request{Method: http.MethodGet, URL: r.at(repo, "blobs", d.String()), Bulk: true}
	if !rng.Whole() {
		q.Header = http.Header{"Range": {formatRange(rng)}}
	}
	key := placeKey{r.name(repo), d}
	take := func(a *answer) (origin.Blob, error) {
		b, err := r.open(a, d, rng, all, func(err error) error {
			if ctx.Err() == nil {
				r.places.drop(key, a.At)
			}
			return r.failure(ctx, origin.ErrBlobUnknown, fmt.Errorf("blob %s: %w", d, err))
		})
		if err != nil {
			a.Discard()
		}
		return b, err
	}
	if at := r.places.find(key); at != nil && !rng.Whole() {
		straight := q
		straight.URL = at
		a, err := r.out.Send(ctx, straight, egress.Secret{})
		if err == nil {
			a.Led = true
			var b origin.Blob
			if b, err = take(newAnswer(a, egress.Secret{})); err == nil {
				return b, nil
			}
		}
		if ctx.Err() != nil {
			return origin.Blob{}, ctx.Err()
		}
		// Whatever went wrong there, the endpoint may lead to where it is right: a
		// signature has an end, and a CDN many hosts.
		r.places.drop(key, at)
	}
	a, err := r.ask(ctx, repo, q)
	if err != nil {
		return origin.Blob{}, r.failure(ctx, origin.ErrBlobUnknown, err)
	}
	b, err := take(a)
	if err == nil && a.Led && !r.out.Own(a.At) {
		r.places.keep(key, a.At)
	}
	return b, err
}

// open gives the range of a blob out of an answer.
func (r *Registry) open(a *answer, d digest.Digest, rng store.Range, all whole, fails func(error) error) (origin.Blob, error) {
	switch {
	case a.StatusCode == http.StatusRequestedRangeNotSatisfiable && !rng.Whole():
		return origin.Blob{}, fmt.Errorf("upstream %s: blob %s: %w", r.endpoint, d, store.ErrRange)
	case a.StatusCode == http.StatusPartialContent && !rng.Whole():
	case a.StatusCode == http.StatusOK:
	case a.StatusCode < http.StatusBadRequest:
		return origin.Blob{}, fails(wrongAnswer("status %d", a.StatusCode))
	default:
		return origin.Blob{}, fails(a.refusal())
	}
	if err := r.sound(a, d); err != nil {
		return origin.Blob{}, fails(err)
	}
	if a.StatusCode == http.StatusOK {
		if err := unranged(a); err != nil {
			return origin.Blob{}, fails(err)
		}
		return all(a, d, rng, fails)
	}
	size, off, n, err := partial(a, rng)
	if err != nil {
		return origin.Blob{}, fails(err)
	}
	if rng.Len > 0 {
		n = min(n, rng.Len)
	}
	return origin.Blob{
		Descriptor: r.blob(d, size), Offset: off, Length: n,
		Body: &span{ReadCloser: a.Body, left: n, fails: fails},
	}, nil
}

// uncut gives all of an answer that is the whole blob.
func (r *Registry) uncut(a *answer, d digest.Digest, rng store.Range, fails func(error) error) (origin.Blob, error) {
	size := a.ContentLength
	if rng.Off > 0 && 0 <= size && size <= rng.Off {
		return origin.Blob{}, fmt.Errorf("upstream %s: blob %s: %w", r.endpoint, d, store.ErrRange)
	}
	return origin.Blob{
		Descriptor: r.blob(d, size), Length: size,
		Body: &span{ReadCloser: a.Body, left: size, open: size < 0, fails: fails},
	}, nil
}

// cut gives the range out of an answer that is the whole blob.
func (r *Registry) cut(a *answer, d digest.Digest, rng store.Range, fails func(error) error) (origin.Blob, error) {
	b := origin.Blob{Descriptor: r.blob(d, a.ContentLength), Offset: rng.Off, Length: -1}
	body := &span{ReadCloser: a.Body, skip: rng.Off, left: -1, fails: fails}
	switch {
	case a.ContentLength >= 0:
		off, n, err := rng.Resolve(a.ContentLength)
		if err != nil {
			return origin.Blob{}, fmt.Errorf("upstream %s: blob %s: %w", r.endpoint, d, err)
		}
		b.Offset, b.Length, body.skip, body.left = off, n, off, n
	case rng.Off < 0:
		return origin.Blob{}, fails(wrongAnswer("the whole blob instead of its end, and no size"))
	default:
		body.open, body.some = true, !rng.Whole()
		if rng.Len > 0 {
			body.left = rng.Len
		}
	}
	b.Body = body
	return b, nil
}

// sound refuses an answer that is no blob's, or another's.
func (r *Registry) sound(a *answer, d digest.Digest) error {
	if err := a.intact(); err != nil {
		return err
	}
	_, err := a.digest(d)
	return err
}

// blob describes a blob of that many bytes, -1 = not known.
func (r *Registry) blob(d digest.Digest, size int64) origin.Descriptor {
	return origin.Descriptor{
		Descriptor: v1.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size},
		Source:     r.source(),
	}
}
