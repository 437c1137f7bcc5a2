package mirror

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Stat implements origin.Reader. A blob that is not kept is not fetched for it. For whom
// may push there only what is kept is there: who asks so is about to push it.
func (m *Mirror) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	p, err := m.locate(ctx, repo)
	if err != nil {
		return origin.Descriptor{}, err
	}
	if p.upstream == nil {
		return m.origin.Stat(ctx, p.repo, d)
	}
	desc, err := m.stat(ctx, p, d)
	m.count(ctx, p, "blob", desc.Source, err)
	return desc, clientError(p.upstream, origin.ErrBlobUnknown, err)
}

func (m *Mirror) stat(ctx context.Context, p place, d digest.Digest) (origin.Descriptor, error) {
	desc, err := m.origin.Stat(ctx, p.repo, d)
	if err == nil {
		m.opts.Cache.Used(p.repo, d)
		desc.Source.Cache = origin.Hit
		return desc, nil
	}
	if !origin.Unknown(err) || m.pushing(ctx, p, origin.Ref{}) {
		return origin.Descriptor{}, err
	}
	if f, ok := m.fills.Find(m.key(p, d)); ok {
		if desc, err := f.Stat(ctx); !errors.Is(err, fill.ErrStored) {
			return desc, err
		}
	}
	desc, err = m.statUpstream(ctx, p, d)
	desc.Source.Cache = origin.Miss
	return desc, err
}

// statUpstream asks p's upstream whether it has a blob.
func (m *Mirror) statUpstream(ctx context.Context, p place, d digest.Digest) (origin.Descriptor, error) {
	q := question{p.repo, headBlob, d.String()}
	if err := m.refused(q); err != nil {
		return origin.Descriptor{}, err
	}
	man, err := m.answers.do(ctx, q, func(ctx context.Context) (origin.Manifest, error) {
		if err := m.refusedElsewhere(ctx, p.upstream, q); err != nil {
			return origin.Manifest{}, err
		}
		desc, err := p.upstream.Reader.Stat(ctx, p.name, d)
		m.refuse(ctx, p.upstream, q, err)
		return origin.Manifest{Descriptor: desc}, err
	})
	return man.Descriptor, err
}

// Blob implements origin.Reader: from the origin, else from a running fill, else
// from one that begins now.
func (m *Mirror) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	p, err := m.locate(ctx, repo)
	if err != nil {
		return origin.Blob{}, err
	}
	if p.upstream == nil {
		return m.origin.Blob(ctx, p.repo, d, r)
	}
	done := m.opts.Cache.Reading(p.repo, d) // before it is there, so that it stays from its first moment on
	b, err := m.blob(ctx, p, d, r)
	m.count(ctx, p, "blob", b.Source, err)
	if err != nil {
		done()
		return origin.Blob{}, clientError(p.upstream, origin.ErrBlobUnknown, err)
	}
	b.Body = &counted{body: b.Body, meter: m.opts.Meter, upstream: p.upstream.Name, done: done}
	return b, nil
}

// rounds is how often a blob is looked for that is said to be in the store, and is
// not: it was deleted in between.
const rounds = 3

func (m *Mirror) blob(ctx context.Context, p place, d digest.Digest, r store.Range) (origin.Blob, error) {
	var err error
	for range rounds {
		var b origin.Blob
		b, err = m.origin.Blob(ctx, p.repo, d, r)
		if err == nil {
			b.Source.Cache = origin.Hit
			return b, nil
		}
		if !origin.Unknown(err) {
			return origin.Blob{}, err
		}
		if refused := m.refused(question{p.repo, headBlob, d.String()}); refused != nil {
			return origin.Blob{}, refused
		}
		f, running := m.fills.Find(m.key(p, d))
		if !running {
			if b, held, err := m.link(ctx, p, d, r); held {
				return b, err
			}
			if f, _, err = m.fills.Join(ctx, m.key(p, d), m.state.size(contentKey{p.repo, d}), newSource(m, p, d).ask, m.keep(p, d)); err != nil {
				return origin.Blob{}, err
			}
		}
		b, err = f.Follow(ctx, r)
		if !errors.Is(err, fill.ErrStored) {
			return b, err
		}
	}
	return origin.Blob{}, err
}

func (m *Mirror) key(p place, d digest.Digest) fill.Key {
	return fill.Key{Upstream: p.upstream.Name, Repo: p.name, Digest: d}
}

// link opens a blob whose bytes another repository holds, once p's own upstream has
// said that this one has it too. held is false where nobody holds them.
func (m *Mirror) link(ctx context.Context, p place, d digest.Digest, r store.Range) (b origin.Blob, held bool, err error) {
	holder, ok := m.origin.(origin.Holder)
	if !ok {
		return origin.Blob{}, false, nil
	}
	own, err := holder.Holds(ctx, d)
	if err != nil {
		return origin.Blob{}, !origin.Unknown(err), err
	}
	// It may be this repository's own since we looked: a fill stores, links and is
	// forgotten, in this order.
	if b, err = m.origin.Blob(ctx, p.repo, d, r); !origin.Unknown(err) {
		b.Source.Cache = origin.Hit
		return b, true, err
	}
	said, err := m.statUpstream(ctx, p, d)
	if err != nil {
		return origin.Blob{}, true, err
	}
	if said.Size != own.Size {
		// A 200 that says nothing of the blob is no word for it: the bytes are.
		return origin.Blob{}, false, nil
	}
	if !m.opts.Cache.Room(p.repo, own.Size) {
		return origin.Blob{}, false, nil // as if nobody had it: it is passed through
	}
	if _, err := m.keeper.Mount(ctx, origin.Repo{}, p.repo, d); err != nil {
		return origin.Blob{}, !origin.Unknown(err), err
	}
	m.opts.Cache.Stored(p.repo, d, own.Size) // it may have been unlinked everywhere, and about to go
	b, err = m.origin.Blob(ctx, p.repo, d, r)
	b.Source = origin.Source{Cache: origin.Revalidated, Upstream: said.Source.Upstream}
	return b, !origin.Unknown(err), err // another replica may have evicted the bytes since
}

// keep puts a verified blob into the origin.
func (m *Mirror) keep(p place, d digest.Digest) fill.Keep {
	return func(ctx context.Context, spool *os.File, size int64) error {
		if m.fills.Replicated() && !m.opts.Cache.Going(d) {
			if _, err := m.origin.Stat(ctx, p.repo, d); err == nil {
				return nil // another replica was there first
			}
		}
		err := m.store(ctx, p, d, spool)
		if err == nil {
			m.opts.Cache.Stored(p.repo, d, size)
		}
		return err
	}
}

// store puts a verified blob into the origin: by adoption if it can, else by upload.
func (m *Mirror) store(ctx context.Context, p place, d digest.Digest, spool *os.File) error {
	if a, ok := m.origin.(origin.Adopter); ok {
		_, err := a.Adopt(ctx, p.repo, spool, d)
		if !errors.Is(err, store.ErrForeign) {
			return err
		}
	}
	in, err := m.keeper.Upload(ctx, p.repo, "", d.Algorithm())
	if err != nil {
		return err
	}
	defer func() { _ = in.Cancel() }() // a no-op once it is committed
	if _, err := io.Copy(in, spool); err != nil {
		return err
	}
	_, err = in.Commit(ctx, d)
	return err
}

// counted counts what is read of a body, and leaves its WriterTo in sight.
type counted struct {
	body     io.ReadCloser
	meter    Meter
	upstream string
	done     func()
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	c.meter.ServedBytes(c.upstream, int64(n))
	return n, err
}

// WriteTo implements io.WriterTo.
func (c *counted) WriteTo(w io.Writer) (int64, error) {
	n, err := io.Copy(w, c.body)
	c.meter.ServedBytes(c.upstream, n)
	return n, err
}

func (c *counted) Close() error {
	defer c.done()
	return c.body.Close()
}
