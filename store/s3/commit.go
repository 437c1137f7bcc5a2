package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// Commit implements store.Ingest. Nothing is copied: the bytes stay in the object that
// they were sent to, and the digest's name is another, small object that says which one.
func (g *ingest) Commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	if g.over {
		return store.Info{}, g.ended("commit")
	}
	g.call++
	info, err := g.commit(ctx, d)
	if err != nil {
		return store.Info{}, fmt.Errorf("commit ingest %s as %q: %w", g.id, d, err)
	}
	return info, nil
}

func (g *ingest) commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	if err := ctx.Err(); err != nil {
		return store.Info{}, err
	}
	if g.sealed != "" && g.sealed != d {
		return store.Info{}, fmt.Errorf("it is being committed as %s: %w", g.sealed, store.ErrBusy)
	}
	if err := g.verify(d); err != nil {
		return store.Info{}, errors.Join(err, g.drop())
	}
	is, err := g.b.pointer(ctx, d, 0)
	switch {
	case err == nil:
		return g.found(d, is)
	case !errors.Is(err, store.ErrNotFound):
		return store.Info{}, err
	}
	own := pointer{Data: g.id, Size: g.size.Load()}
	if g.upload == "" {
		own.Data = newID() // each try, by whomever, has an object of its own
	} else if err := g.seal(ctx, d); err != nil {
		return store.Info{}, err
	}
	g.data = own.Data
	// From here on an error leaves open what the bucket has.
	g.index = own.indexKey(d)
	g.doubt = true
	if _, _, err := g.b.s.putObject(ctx, g.index, text(""), nil); err != nil {
		return store.Info{}, err
	}
	if err := g.store(ctx, d, own); err != nil {
		if errors.Is(err, store.ErrDigest) {
			g.doubt = false
			err = errors.Join(err, g.drop())
		}
		return store.Info{}, err
	}
	return g.name(ctx, d, own)
}

// seal makes d the one digest that an upload in parts can be committed as, whoever has
// resumed it: before anybody makes the object of the parts, the state says so, and it says
// so of one only. All names and index entries of an object are of one digest then, and what
// is not that digest has no other name. Errors: store.ErrBusy, where somebody else has
// written the state since.
func (g *ingest) seal(ctx context.Context, d digest.Digest) error {
	if g.sealed == "" {
		g.sealed, g.saved = d, -1
	}
	// The last part goes before, or the state would have its bytes.
	if g.buf.size > 0 || len(g.parts)+len(g.sending) == 0 {
		g.saved = -1 // a state that was saved has it in no part
		if err := g.send(); err != nil {
			return err
		}
	}
	if err := g.await(0); err != nil {
		return err
	}
	if g.saved == g.size.Load() {
		return nil
	}
	return g.save(ctx)
}

// verify wants that what was written is d, as far as that is known without reading it
// again from the bucket. Errors: store.ErrDigest.
func (g *ingest) verify(d digest.Digest) error {
	if !store.ValidDigest(d) {
		return store.ErrDigest
	}
	h := g.hash
	if g.alg != d.Algorithm() {
		if len(g.parts)+len(g.sending) > 0 {
			return nil // store reads it
		}
		h = store.Hash(d.Algorithm())
		if _, err := io.Copy(h, g.buf.reader()); err != nil {
			return err
		}
	}
	return same(d, digest.NewDigest(d.Algorithm(), h))
}

func same(want, got digest.Digest) error {
	if got != want {
		return fmt.Errorf("content is %s: %w", got, store.ErrDigest)
	}
	return nil
}

// store makes the object that has the blob's bytes. Errors: store.ErrDigest.
func (g *ingest) store(ctx context.Context, d digest.Digest, own pointer) error {
	verified := g.alg == d.Algorithm() || len(g.parts)+len(g.sending) == 0
	if !g.whole {
		again, err := g.sendAll(ctx)
		if err != nil {
			return err
		}
		// Somebody else may have completed it, from the same state and with other bytes.
		verified = verified && !again
	}
	if !verified {
		r, err := g.b.body(ctx, d, own, 0, own.Size)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			err = errors.Join(err, r.Close())
		}
		switch {
		case errors.Is(err, errDamaged):
			g.whole = true
			return errors.Join(err, store.ErrDigest)
		case errors.Is(err, store.ErrNotFound):
			err = errLost
		}
		if err != nil {
			return err
		}
	}
	g.whole = g.upload != ""
	return nil
}

// sendAll sends what the bucket does not have; all parts are there. again says that it was
// all there already.
func (g *ingest) sendAll(ctx context.Context) (again bool, err error) {
	if g.upload != "" {
		return g.complete(ctx)
	}
	leave, err := g.b.turn(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	_, err = g.b.s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &g.b.s.bucket, Key: g.b.s.key(dataDir + g.data), ContentType: aws.String(blobType),
		Body: g.buf.reader(), ContentLength: &g.buf.size,
	})
	return false, err
}

// name gives the bytes their digest's name: the moment at which the blob is there.
func (g *ingest) name(ctx context.Context, d digest.Digest, own pointer) (store.Info, error) {
	line, err := json.Marshal(own)
	if err != nil {
		return store.Info{}, err
	}
	for {
		written, err := g.b.s.cells.put(ctx, pointerKey(d), line, store.Absent())
		if err == nil {
			// When it was answered is not quite what the bucket will say of it, so it is not
			// remembered.
			if own.modified = written.modified; own.modified.IsZero() {
				own.modified = time.Now()
			}
			return g.found(d, own)
		}
		if !errors.Is(err, store.ErrConflict) {
			g.late = true
			if errors.Is(err, errUncertain) {
				// Another's name is as good as ours, whatever came of that.
				if is, err := g.b.pointer(ctx, d, 0); err == nil {
					return g.found(d, is)
				}
			}
			return store.Info{}, err
		}
		is, err := g.b.pointer(ctx, d, 0)
		if err == nil {
			return g.found(d, is)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return store.Info{}, err
		}
		// It was there, and was deleted: ours may have its name.
	}
}

// found ends the ingest of a blob that is there: with its own bytes, or with others, and
// then its own go.
func (g *ingest) found(d digest.Digest, is pointer) (store.Info, error) {
	g.doubt = g.late
	if is.Data != g.data {
		return is.info(d), g.drop()
	}
	g.end()
	if g.stated {
		// One that cannot be removed expires, and is told apart from a blob's then.
		if err := g.b.s.delete(context.WithoutCancel(g.ctx), ingestDir+g.id); err != nil {
			g.b.s.log.Warn("state of a committed upload not removed yet", "error", err)
		}
	}
	return is.info(d), nil
}
