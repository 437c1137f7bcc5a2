package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Mend implements origin.Scrubber.
func (r *Registry) Mend(ctx context.Context, it origin.Item) (mended bool, err error) {
	k := content{it.Repo, it.Digest}
	switch it.Kind {
	case origin.KindManifest:
		mended, err = r.mendManifest(ctx, k)
	case origin.KindTag:
		mended, err = r.mendTag(ctx, tagKey{it.Repo, it.Tag})
	case origin.KindLink:
		mended, err = r.mendLink(ctx, k)
	case origin.KindReferrer:
		_, err = r.loadManifest(ctx, k)
		switch {
		case errors.Is(err, errDamaged):
			err = nil // which the manifest itself is told of
		case origin.Unknown(err):
			mended, err = r.mendEntry(ctx, k, it.Subject)
		}
	}
	if origin.Unknown(err) {
		err = nil // deleted since
	}
	if err != nil || mended {
		return mended, err
	}
	if _, err := r.records.Get(ctx, keyRepo(it.Repo)); !errors.Is(err, store.ErrNotFound) {
		return false, nil // whoever lists repositories tells of an error
	}
	r.repos.remove(it.Repo)
	return true, r.commit(ctx, r.creation(ctx, it.Repo))
}

// mendEntry takes a manifest that is gone out of the referrers of its subject: a push or a
// deletion that was broken off has left it there. One that is under way is let be.
func (r *Registry) mendEntry(ctx context.Context, k content, subject digest.Digest) (bool, error) {
	l := r.manifestLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	rec, err := r.records.Get(ctx, keyReferrer(k.repo, subject, k.digest))
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, errDamaged) && !r.overwrites(rec.Version) {
		return false, nil
	}
	if err != nil && !errors.Is(err, errDamaged) {
		return false, err
	}
	now, err := r.clock.now(ctx, r)
	if err != nil || now.Sub(rec.Modified) < r.options().Grace {
		return false, err
	}
	if _, err := r.loadManifest(ctx, k); !origin.Unknown(err) {
		return false, nil // pushed meanwhile
	}
	r.referrers.forget(prefixReferrers(k.repo, subject))
	err = r.records.Delete(ctx, keyReferrer(k.repo, subject, k.digest), store.Version(rec.Version))
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// mendLink writes a link that is damaged anew. Who made it is not known, so it stays.
func (r *Registry) mendLink(ctx context.Context, k content) (bool, error) {
	_, err := r.Link(ctx, k.repo, k.digest)
	if !errors.Is(err, errDamaged) {
		return false, err
	}
	l := r.linkLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	r.links.remove(k)
	_, _, err = r.renew(ctx, k, pushed)
	return err == nil, err
}

// mendManifest puts right what stands beside a manifest's bytes: its header, and its place
// among the referrers of its subject.
func (r *Registry) mendManifest(ctx context.Context, k content) (mended bool, err error) {
	l := r.manifestLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	m, err := r.loadManifest(ctx, k)
	if errors.Is(err, errDamaged) && m.bytes != nil && r.overwrites(m.version) {
		m, err = r.mendHeader(ctx, k, m)
		if errors.Is(err, store.ErrConflict) {
			return false, nil
		}
		mended = err == nil
	}
	if err != nil {
		return mended, err
	}
	c, err := origin.ReadManifest(m.MediaType, m.bytes)
	if err != nil || c.Subject == nil {
		return mended, err
	}
	also, err := r.mendReferrer(ctx, k, m, c)
	return mended || also, err
}

// overwrites reports whether a record that is damaged can be written anew, and nothing that
// was pushed over it since. Of one that its store says is damaged there is no version: only
// where nobody else writes nothing can have been.
func (r *Registry) overwrites(version string) bool { return version != "" || r.options().Sole }

// mendHeader writes a manifest anew whose bytes are good, and whose header is damaged: what
// the bytes do not say is what can still be read of it, or else what keeps the most.
func (r *Registry) mendHeader(ctx context.Context, k content, m manifest) (manifest, error) {
	kind, err := origin.MediaTypeOf(m.bytes)
	if err != nil {
		return m, quarantined(errors.Join(err, errDamaged), "manifest %s of %s", k.digest, k.repo)
	}
	c, err := origin.ReadManifest(kind, m.bytes)
	if err != nil {
		return m, quarantined(errors.Join(err, errDamaged), "manifest %s of %s", k.digest, k.repo)
	}
	h := m.manifestHeader
	h.MediaType, h.PushedAt, h.Subject, h.Suspect, h.Sparse = kind, time.Now().UTC(), "", false, true
	if c.Subject != nil {
		h.Subject = c.Subject.Digest
	}
	data, err := encodeManifest(h, m.bytes)
	if err != nil {
		return m, err
	}
	r.manifests.remove(k)
	// Over what is damaged, and over nothing that another process has pushed since.
	if _, err := r.records.Put(ctx, keyManifest(k.repo, k.digest), data, store.Version(m.version)); err != nil {
		return m, fmt.Errorf("write manifest %s of %s anew: %w", k.digest, k.repo, err)
	}
	return newManifest(h, k.digest, m.bytes), nil
}

// mendReferrer makes a manifest's place among the referrers of its subject what it should
// be. The caller holds the manifest's lock.
func (r *Registry) mendReferrer(ctx context.Context, k content, m manifest, c origin.Content) (bool, error) {
	var w batch
	if err := r.addReferrer(ctx, &w, k, m.descriptor, c, false); err != nil {
		return false, err
	}
	want := w[0].write
	rec, err := r.records.Get(ctx, want.Key)
	switch {
	case err == nil && bytes.Equal(rec.Data, want.Data):
		return false, nil
	case err == nil, errors.Is(err, errDamaged):
		w[0].write.If = store.Always()
	case !errors.Is(err, store.ErrNotFound):
		return false, err
	}
	r.referrers.forget(prefixReferrers(k.repo, c.Subject.Digest))
	return true, r.commit(ctx, w)
}

// mendTag writes a tag anew that is damaged, if it is known what it named, and makes sure
// that the manifest which it names knows of it.
func (r *Registry) mendTag(ctx context.Context, k tagKey) (bool, error) {
	t, err := r.readTag(ctx, k)
	if errors.Is(err, errDamaged) {
		return r.retag(ctx, k, err)
	}
	if err != nil {
		return false, err
	}
	l := r.manifestLocks.of(k.repo, t.Digest.String())
	l.Lock()
	defer l.Unlock()
	m, err := r.loadManifest(ctx, content{k.repo, t.Digest})
	if origin.Unknown(err) {
		now, again := r.readTag(ctx, k)
		if again == nil && now.Digest == t.Digest {
			return false, &origin.LostError{Digest: t.Digest}
		}
		return false, nil
	}
	if errors.Is(err, errDamaged) || err == nil && slices.Contains(m.Tags, k.tag) {
		return false, nil // the manifest itself is told of
	}
	if err != nil {
		return false, err
	}
	_, err = r.records.Put(ctx, keyName(k.repo, t.Digest, k.tag), []byte("{}"), store.Absent())
	if errors.Is(err, store.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// retag lets a damaged tag name the one manifest that knows of it. Where several do, or
// none, what it named is not known, and it stays damaged: why.
func (r *Registry) retag(ctx context.Context, k tagKey, why error) (bool, error) {
	var named []digest.Digest
	for _, kind := range []string{"_m", "_n"} {
		prefix := below(k.repo, kind)
		for e, err := range r.records.List(ctx, prefix, "") {
			if err != nil {
				return false, fmt.Errorf("look for what tag %s of %s named: %w", k.tag, k.repo, err)
			}
			it, _, err := itemOf(e)
			if err != nil {
				return false, err
			}
			m, err := r.loadManifest(ctx, content{k.repo, it.Digest})
			if err != nil && !origin.Unknown(err) {
				return false, errors.Join(why, err) // it may know of the tag
			}
			if err == nil && (it.Tag == k.tag || kind == "_m" && slices.Contains(m.Tags, k.tag)) {
				named = append(named, it.Digest)
			}
		}
	}
	slices.Sort(named)
	if named = slices.Compact(named); len(named) != 1 {
		return false, why
	}
	is := content{k.repo, named[0]}
	held := r.manifestLocks.of(k.repo, is.digest.String())
	held.Lock()
	defer held.Unlock()
	m, err := r.loadManifest(ctx, is)
	if origin.Unknown(err) {
		return false, why // it has just gone
	}
	if err != nil {
		return false, err
	}
	data, err := json.Marshal(tagRecord{Digest: is.digest, MediaType: m.MediaType, Size: int64(len(m.bytes)), PushedAt: time.Now().UTC()})
	if err != nil {
		return false, err
	}
	l := r.tagLocks.of(k.repo, k.tag)
	l.Lock()
	defer l.Unlock()
	rec, err := r.records.Get(ctx, keyTag(k.repo, k.tag))
	if err == nil {
		_, err = decodeTag(k.tag, rec.Data)
	}
	if !errors.Is(err, errDamaged) {
		return false, err // somebody was here
	}
	if !r.overwrites(rec.Version) {
		return false, why
	}
	r.forgetTag(k)
	// Over what is damaged, and over nothing that another process has pushed since.
	version, err := r.records.Put(ctx, keyTag(k.repo, k.tag), data, store.Version(rec.Version))
	if errors.Is(err, store.ErrConflict) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := r.confirm(ctx, is, m.version, []string{k.tag}); !errors.Is(err, errOvertaken) {
		return err == nil, err
	}
	// The manifest goes, and nobody looks for this tag any more.
	err = r.records.Delete(ctx, keyTag(k.repo, k.tag), store.Version(version))
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
		err = nil
	}
	return false, err
}
