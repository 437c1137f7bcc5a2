package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/store"
)

const (
	// held is how many bytes of an upload are kept until it is known whether more come:
	// a blob up to this size is sent with the request that ends its upload.
	held = 64 << 10
	// lull is how long a request that sends an upload's bytes is kept open when nobody
	// writes to it: not every registry lets a second one go on where the first ended.
	lull = 10 * time.Second
	// farewell is how long an upload's end is waited for that nobody waits for.
	farewell = 10 * time.Second
)

// upload is the push of a blob, as it is here. It has one holder at a time; what is
// sent while nobody holds it is under its own mutex.
type upload struct {
	origin *Origin
	repo   origin.Repo
	id     string
	alg    digest.Algorithm
	hash   hash.Hash
	size   int64
	buf    []byte   // the first bytes, none of which was sent
	at     *url.URL // where the endpoint wants the next request
	stream *stream  // the request that sends bytes now
	moved  time.Time
}

// Upload implements origin.Writer. Of an upload's state the endpoint's address for it is
// kept in memory alone: after a restart it is unknown. It may name another host, which
// is sent the bytes and no credentials.
func (o *Origin) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	if id != "" {
		u, err := o.sessions.hold(id, repo, asker(ctx))
		if err != nil {
			return nil, err
		}
		return &ingest{upload: u}, nil
	}
	h := store.Hash(alg)
	if h == nil {
		return nil, origin.Errorf(origin.ErrUnsupported, "digest algorithm %s is neither sha256 nor sha512", origin.Quote(alg.String()))
	}
	at := o.at(repo, "blobs", "uploads/")
	if alg != digest.Canonical {
		at.RawQuery = url.Values{"digest-algorithm": {alg.String()}}.Encode()
	}
	a, err := o.write(ctx, o.pushing(repo), egress.Request{Method: http.MethodPost, URL: at}, http.StatusAccepted)
	if err == nil {
		defer a.Discard()
		at, err = o.location(a)
	}
	if err != nil {
		return nil, o.refused(ctx, origin.ErrNameUnknown, fmt.Errorf("begin of an upload: %w", err))
	}
	u := &upload{origin: o, repo: repo, alg: alg, hash: h, at: at}
	if old := o.sessions.add(u, asker(ctx)); len(old) > 0 {
		// Whoever begins this one does not wait for the ends of others.
		o.leaving.Go(func() {
			for _, u := range old {
				u.drop(o.farewell)
			}
		})
	}
	return &ingest{upload: u}, nil
}

// asker is who a request is for; "" where nobody was asked.
func asker(ctx context.Context) string {
	if p := origin.RequestOf(ctx).Principal; p != nil {
		return p.String()
	}
	return ""
}

// location is the address that an endpoint's answer names for an upload's next request.
func (o *Origin) location(a *answer) (*url.URL, error) {
	u, err := o.out.Lead(a.At, a.Header.Get("Location"))
	if err != nil {
		return nil, fmt.Errorf("the upload's Location: %w", err)
	}
	return u, nil
}

// ingest is an upload in somebody's hands.
type ingest struct {
	*upload
	over bool // let go of, committed or cancelled
}

// ID implements store.Ingest.
func (i *ingest) ID() string { return i.id }

// Size implements store.Ingest.
func (i *ingest) Size() int64 { return i.size }

// Write implements io.Writer. After an error the upload is over: what the endpoint has
// of it is not known.
func (i *ingest) Write(p []byte) (int, error) {
	if i.over {
		return 0, origin.ErrUploadUnknown
	}
	if i.stream == nil && i.size == int64(len(i.buf)) && len(i.buf)+len(p) <= held {
		i.buf = append(i.buf, p...)
		i.took(p)
		return len(p), nil
	}
	if i.stream == nil {
		i.stream = i.open()
		if len(i.buf) > 0 {
			if err := i.send(i.buf); err != nil {
				return 0, err
			}
			i.buf = nil
		}
	}
	if err := i.send(p); err != nil {
		return 0, err
	}
	i.took(p)
	return len(p), nil
}

func (i *ingest) took(p []byte) {
	_, _ = i.hash.Write(p) // a hash never fails
	i.size += int64(len(p))
}

// send sends bytes on.
func (i *ingest) send(p []byte) error {
	if _, err := i.stream.w.Write(p); err == nil {
		return nil
	}
	err := i.finish(context.Background()) // it has ended already
	if err == nil {
		err = i.origin.refused(context.Background(), origin.ErrUploadUnknown, wrongAnswer("an upload was answered before it ended"))
	}
	_ = i.Cancel() // it has no error
	return err
}

// Commit implements store.Ingest. The digest is checked before the endpoint is asked to
// do so, unless it is of another algorithm than the upload's. A wrong one ends the
// upload. Errors: ErrDigestInvalid, ErrDenied, ErrUploadUnknown.
func (i *ingest) Commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	if i.over {
		return store.Info{}, origin.ErrUploadUnknown
	}
	if _, err := origin.ParseDigest(d.String()); err != nil {
		return store.Info{}, err
	}
	if d.Algorithm() == i.alg && fmt.Sprintf("%x", i.hash.Sum(nil)) != d.Encoded() {
		return store.Info{}, errors.Join(origin.Wrap(origin.ErrDigestInvalid, store.ErrDigest), i.Cancel())
	}
	if err := i.finish(ctx); err != nil {
		if i.stream == nil { // it has ended, and what the endpoint has is not known
			err = errors.Join(err, i.Cancel())
		}
		return store.Info{}, err
	}
	if err := i.put(ctx, d); err != nil {
		err = i.origin.refused(ctx, origin.ErrUploadUnknown, fmt.Errorf("commit of blob %s: %w", d, err))
		if errors.Is(err, origin.ErrDigestInvalid) || errors.Is(err, origin.ErrUploadUnknown) {
			err = errors.Join(err, i.Cancel())
		}
		return store.Info{}, err
	}
	i.over = true
	i.origin.sessions.remove(i.upload)
	return store.Info{Digest: d, Size: i.size, Modified: time.Now()}, nil
}

// put ends the upload with its digest, and with its bytes if none was sent before.
func (i *ingest) put(ctx context.Context, d digest.Digest) error {
	at := *i.at
	if at.RawQuery != "" {
		at.RawQuery += "&"
	}
	at.RawQuery += url.Values{"digest": {d.String()}}.Encode()
	q := egress.Request{Method: http.MethodPut, URL: &at, Header: http.Header{"Content-Type": {"application/octet-stream"}}}
	if b := i.buf; len(b) > 0 {
		q.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
		q.Length = int64(len(b))
	}
	a, err := i.origin.write(ctx, i.origin.pushing(i.repo), q, http.StatusCreated)
	if err != nil {
		return err
	}
	defer a.Discard()
	_, err = a.digest(d)
	return err
}

// Close implements store.Ingest.
func (i *ingest) Close() error {
	if !i.over {
		i.over = true
		i.origin.sessions.release(i.upload)
	}
	return nil
}

// Cancel implements store.Ingest. It has no error: an upload that the endpoint does not
// drop expires there.
func (i *ingest) Cancel() error {
	if !i.over {
		i.over = true
		i.origin.sessions.remove(i.upload)
		i.drop(context.Background()) // the client may be gone, and be the reason
	}
	return nil
}

// drop ends an upload that nobody holds, until ctx ends.
func (u *upload) drop(ctx context.Context) {
	if u.stream != nil {
		u.stream.cut()
		u.stream = nil
	}
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	u.origin.abandon(ctx, u.repo, u.at)
}
