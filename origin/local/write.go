package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// write writes the records of a push: repository, manifest, referrer, tags; those up
// to the first tag at once. The manifest's lock is held to the end, so that a deletion
// of the manifest comes before all of it or after all of it, and never between a
// manifest and its tags.
func (r *Registry) write(ctx context.Context, repo origin.Repo, desc v1.Descriptor, b []byte, c origin.Content, tags []string, m mark) error {
	k := content{repo, desc.Digest}
	l := r.manifestLocks.of(repo, desc.Digest.String())
	l.Lock()
	defer l.Unlock()
	w := r.creation(ctx, repo)
	h, err := r.addManifest(ctx, &w, k, desc, b, c, tags, m)
	if err != nil {
		return err
	}
	if c.Subject != nil {
		if err := r.addReferrer(&w, k, desc, c); err != nil {
			return err
		}
	}
	for _, tag := range tags {
		if err := r.writeTag(ctx, w, tagKey{repo, tag}, desc, slices.Contains(h.Tags, tag)); err != nil {
			return err
		}
		w = nil
	}
	return r.commit(ctx, w)
}

// addManifest adds a manifest's record unless it is there, and gives the header of
// the one that is there then. One that a client pushes is not mirrored any more. The
// caller holds the manifest's lock until all is committed.
func (r *Registry) addManifest(ctx context.Context, w *batch, k content, desc v1.Descriptor, b []byte, c origin.Content, tags []string, m mark) (manifestHeader, error) {
	old, ok := r.manifests.get(k)
	if !ok {
		var err error
		old, err = r.fillManifest(ctx, k)
		if err != nil && !origin.Unknown(err) && !errors.Is(err, errDamaged) {
			return manifestHeader{}, err
		}
		ok = err == nil
	}
	// A mirrored manifest may come under another type than before. The last one
	// counts; a tag says what it was pushed with until it is pushed again.
	if ok && old.MediaType == desc.MediaType && (old.Mirrored == m || old.Mirrored == pushed) {
		return old.manifestHeader, nil
	}
	h := manifestHeader{MediaType: desc.MediaType, PushedAt: time.Now().UTC(), Mirrored: m, Tags: tags}
	if ok {
		h.Tags, h.Mirrored = old.Tags, m && old.Mirrored
	}
	if c.Subject != nil {
		h.Subject = c.Subject.Digest
	}
	data, err := encodeManifest(h, b)
	if err != nil {
		return h, err
	}
	w.add(intent{
		what:  fmt.Sprintf("manifest %s of %s", k.digest, k.repo),
		write: store.Write{Key: keyManifest(k.repo, k.digest), Data: data},
		done: func() {
			kept := newManifest(h, k.digest, data[len(data)-len(b):])
			r.manifests.put(k, kept, kept.cost())
		},
		failed: func() { r.manifests.remove(k) },
	})
	return h, nil
}

// addReferrer lists the manifest among the referrers of its subject. The caller
// holds the manifest's lock until all is committed.
func (r *Registry) addReferrer(w *batch, k content, desc v1.Descriptor, c origin.Content) error {
	subject := c.Subject.Digest
	desc.ArtifactType = c.ArtifactType
	desc.Annotations = c.Annotations
	data, err := json.Marshal(desc)
	if err != nil {
		return fmt.Errorf("encode referrer: %w", err)
	}
	name := prefixReferrers(k.repo, subject)
	w.add(intent{
		what:  fmt.Sprintf("referrer %s of %s in %s", k.digest, subject, k.repo),
		write: store.Write{Key: keyReferrer(k.repo, subject, k.digest), Data: data, If: store.Absent()},
		taken: func() error { return nil }, // by an earlier push of the same bytes
		done:  func() { r.referrers.set(name, newReferrer(desc, len(data))) },
		// What is not known is listed again.
		failed: func() { r.referrers.forget(name) },
	})
	return nil
}

// writeTag lets a tag name the manifest, behind what else is to be written. known
// says that a deletion of the manifest finds the tag without being told. The caller
// holds the manifest's lock.
//
// The tag's lock spans its record, its place in memory and its index, so that two
// pushes of one tag leave all three as the later one wants them.
func (r *Registry) writeTag(ctx context.Context, w batch, k tagKey, desc v1.Descriptor, known bool) error {
	l := r.tagLocks.of(k.repo, k.tag)
	l.Lock()
	defer l.Unlock()
	old, ok := r.tags.get(k)
	if !ok {
		var err error
		old, err = r.fillTag(ctx, k)
		if err != nil && !origin.Unknown(err) && !errors.Is(err, errDamaged) {
			return err
		}
		ok = err == nil
	}
	if ok && old.names(desc) {
		return r.commit(ctx, w)
	}
	if !known {
		// Before the tag itself: a tag that a deletion cannot find would outlive its
		// manifest, while a note of a tag that names something else does no harm.
		w.add(intent{
			what:  fmt.Sprintf("note of tag %s of %s", k.tag, k.repo),
			write: store.Write{Key: keyName(k.repo, desc.Digest, k.tag), Data: []byte("{}"), If: store.Absent()},
			taken: func() error { return nil },
		})
	}
	if_ := store.Always()
	if r.immutable(k.tag) {
		// The store decides who was first, whatever memory and other processes think.
		if_ = store.Absent()
	}
	t := tagRecord{Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size, PushedAt: time.Now().UTC()}
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode tag: %w", err)
	}
	w.add(intent{
		what:  fmt.Sprintf("tag %s of %s", k.tag, k.repo),
		write: store.Write{Key: keyTag(k.repo, k.tag), Data: data, If: if_},
		taken: func() error {
			first, err := r.fillTag(ctx, k)
			if err == nil && first.Digest != desc.Digest {
				err = immutableError(k.repo, k.tag, first.Digest)
			}
			return err
		},
		done: func() {
			r.keepTag(k, t)
			r.names.set(prefixTags(k.repo), item[struct{}]{key: k.tag})
		},
		failed: func() { r.forgetTag(k) },
	})
	return r.commit(ctx, w)
}

// forgetTag drops what memory has of a tag after a write that may or may not have
// happened. The caller holds the tag's lock.
func (r *Registry) forgetTag(k tagKey) {
	r.tags.remove(k)
	r.names.forget(prefixTags(k.repo))
}
