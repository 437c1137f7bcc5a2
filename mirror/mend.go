package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Check reads again all that the mirror remembers, and forgets what is damaged.
func (m *Mirror) Check(ctx context.Context) iter.Seq2[origin.Remembered, error] {
	return func(yield func(origin.Remembered, error) bool) {
		for e, err := range m.state.records.List(ctx, "mirror", "") {
			var is origin.Remembered
			if err == nil {
				is, err = m.state.check(ctx, e.Key)
			}
			if err != nil {
				err = fmt.Errorf("check what is remembered: %w", err)
			}
			if !yield(is, err) || err != nil {
				return
			}
		}
	}
}

// check reads a record again, and deletes it if it is damaged.
func (s *state) check(ctx context.Context, key string) (is origin.Remembered, err error) {
	name, rest, _ := strings.Cut(strings.TrimPrefix(key, "mirror/"), "/_")
	if is.Repo, err = origin.ParseRepo(name); err != nil {
		return is, fmt.Errorf("record %s: %w", key, store.ErrDamaged)
	}
	kind, rest, _ := strings.Cut(rest, "/")
	if kind == "m" {
		alg, hex, _ := strings.Cut(rest, "/")
		if is.Digest, err = origin.ParseDigest(alg + ":" + hex); err != nil {
			return is, fmt.Errorf("record %s: %w", key, store.ErrDamaged)
		}
	}
	read := func(ctx context.Context) error {
		rec, err := s.records.Get(ctx, key)
		if err != nil {
			return err
		}
		switch kind {
		case "m":
			_, err = decodeManifest(contentKey{is.Repo, is.Digest}, rec.Data)
		case "t":
			_, err = decodeTag(key, rec.Data)
		case "r":
			_, err = decodeReferrers(key, rec.Data)
		}
		return err
	}
	err = read(ctx)
	if errors.Is(err, store.ErrDamaged) {
		// Behind what is about to be written there, which may be good.
		err = s.now(ctx, key, func(ctx context.Context) error {
			err := read(ctx)
			if errors.Is(err, store.ErrDamaged) {
				is.Damaged = true
				err = s.records.Delete(ctx, key, store.Always())
			}
			return err
		})
	}
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return is, err
}

// decodeTag reads the record of a tag. Errors: store.ErrDamaged.
func decodeTag(key string, data []byte) (t tag, err error) {
	if err := json.Unmarshal(data, &t); err != nil {
		return tag{}, fmt.Errorf("record %s: %w: %w", key, store.ErrDamaged, err)
	}
	if _, err := origin.ParseDigest(t.Digest.String()); err != nil {
		return tag{}, fmt.Errorf("record %s: %w: %w", key, store.ErrDamaged, err)
	}
	return t, nil
}

// read gives a record. One that is damaged is as if it was not there: it is asked for
// again, and written anew. Errors: store.ErrNotFound.
func (s *state) read(ctx context.Context, key string) (store.Record, error) {
	rec, err := s.records.Get(ctx, key)
	return rec, s.usable(key, err)
}

// usable makes of an error that a record is damaged that it is not there.
func (s *state) usable(key string, err error) error {
	if errors.Is(err, store.ErrDamaged) {
		s.log.Error("what was remembered is damaged, and asked for again", "key", key, "error", err)
		return store.ErrNotFound
	}
	return err
}

// Restore puts a manifest of a mirrored repository back where it is damaged or gone: from
// what the mirror remembers, or else from the upstream. Errors: ErrManifestUnknown of what
// is not mirrored.
func (m *Mirror) Restore(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	p, err := m.Here().place(repo)
	switch {
	case err != nil:
		return err
	case p.upstream == nil:
		return origin.Errorf(origin.ErrManifestUnknown, "%s is not mirrored: push it again", repo)
	}
	man, err := m.byDigest(ctx, p, d)
	if err != nil {
		return err
	}
	k := contentKey{p.repo, d}
	return m.state.now(ctx, k.String(), m.state.recordManifest(k, man, func(ctx context.Context) error {
		if p.upstream.Writable { // it may be what a client pushed
			if _, err := m.origin.Push(ctx, p.repo, man, origin.PushOptions{}); !errors.Is(err, origin.ErrManifestBlobUnknown) {
				return err
			}
		}
		_, err := m.origin.Push(ctx, p.repo, man, origin.PushOptions{Sparse: true})
		return err
	}))
}
