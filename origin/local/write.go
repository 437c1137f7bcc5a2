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

// pushedWithin is how exact it is known when a tag was pushed last: a push that changes
// nothing writes nothing within that time.
const pushedWithin = time.Hour

// write writes the records of a push: repository, manifest, referrer, tags; those up
// to the first tag at once. The manifest's lock is held while they are written, so that a
// deletion of the manifest comes before all of it or after all of it, and never between a
// manifest and its tags. Of other processes confirm takes care.
func (r *Registry) write(ctx context.Context, repo origin.Repo, desc v1.Descriptor, b []byte, c origin.Content, tags []string, m mark) error {
	k := content{repo, desc.Digest}
	l := r.manifestLocks.of(repo, desc.Digest.String())
	l.Lock()
	defer l.Unlock()
	for round := range rounds {
		if err := r.pause(ctx, k, round); err != nil {
			return err
		}
		err := r.writeOnce(ctx, k, desc, b, c, tags, m, round > 0)
		if !errors.Is(err, errOvertaken) {
			return err
		}
		r.manifests.remove(k)
		for _, tag := range tags {
			r.tags.remove(tagKey{repo, tag})
		}
	}
	return origin.Wrap(origin.Errorf(origin.ErrUnavailable, "manifest %s is deleted again and again: try again", k.digest), errOvertaken)
}

// writeOnce is one round of write. again says that it is not the first one. Errors:
// errOvertaken.
func (r *Registry) writeOnce(ctx context.Context, k content, desc v1.Descriptor, b []byte, c origin.Content, tags []string, m mark, again bool) error {
	w := r.creation(ctx, k.repo)
	is, written, err := r.addManifest(ctx, &w, k, desc, b, c, tags, m)
	if err != nil {
		return err
	}
	if c.Subject != nil {
		if err := r.addReferrer(ctx, &w, k, desc, c, written); err != nil {
			return err
		}
	}
	for _, tag := range tags {
		if err := r.writeTag(ctx, w, tagKey{k.repo, tag}, desc, slices.Contains(is.Tags, tag), again, m); err != nil {
			return err
		}
		w = nil
	}
	if len(tags) == 0 {
		r.enter(ctx, &w, k.repo, "", desc, m)
	}
	if err := r.commit(ctx, w); err != nil || r.options().Sole || written && len(tags) == 0 && c.Subject == nil {
		return err
	}
	return r.confirm(ctx, k, is.version, tags)
}

// addManifest adds a manifest's record unless it is there, and gives the one that is
// there then: one that is written names all of the tags, and has no version. One that a
// client pushes is not mirrored any more. The caller holds the manifest's lock until all
// is committed, whose error is errOvertaken if another process was here meanwhile.
func (r *Registry) addManifest(ctx context.Context, w *batch, k content, desc v1.Descriptor, b []byte, c origin.Content, tags []string, m mark) (is manifest, written bool, err error) {
	old, ok := r.manifests.sure(k)
	lapsing := func() bool { return old.Subject != "" && r.due(ctx, old.lease) }
	// A mirrored manifest may come under another type than before. The last one
	// counts; a tag says what it was pushed with until it is pushed again.
	stays := func() bool {
		return !old.Suspect && old.MediaType == desc.MediaType && (old.Mirrored == m || old.Mirrored == pushed)
	}
	versioned := func() bool { return old.version != "" || r.options().Sole }
	if_ := store.Absent()
	if !ok || lapsing() || !stays() || !versioned() {
		if old, err = r.fillManifest(ctx, k); err == nil && lapsing() {
			old, err = r.renewManifest(ctx, k)
		}
		ok = err == nil
		switch {
		case ok, errors.Is(err, errDamaged):
			if_ = store.Version(old.version)
		case !origin.Unknown(err):
			return manifest{}, false, err
		}
	}
	if ok && stays() {
		return old, false, nil
	}
	h := manifestHeader{MediaType: desc.MediaType, PushedAt: time.Now().UTC(), Mirrored: m, Tags: tags}
	if old.descriptor.Digest != "" { // there is one, damaged perhaps: then who made it may not be known, and it stays
		h.Mirrored = m && old.Mirrored
		h.Sparse = old.Sparse || old.Mirrored == mirrored && m == pushed
	}
	if old.MediaType != "" {
		h.Tags = union(old.Tags, tags)
	}
	if c.Subject != nil {
		h.Subject = c.Subject.Digest
	}
	data, err := encodeManifest(h, b)
	if err != nil {
		return manifest{}, false, err
	}
	is = newManifest(h, k.digest, data[len(data)-len(b):])
	is.lease = leased()
	w.add(intent{
		what:   fmt.Sprintf("manifest %s of %s", k.digest, k.repo),
		write:  store.Write{Key: keyManifest(k.repo, k.digest), Data: data, If: if_},
		taken:  func() error { return errOvertaken },
		done:   func() { r.manifests.put(k, is, is.cost()) },
		failed: func() { r.manifests.remove(k) },
	})
	return is, true, nil
}

// union gives the tags of both lists, each once.
func union(some, others []string) []string {
	all := slices.Clone(some)
	for _, tag := range others {
		if !slices.Contains(all, tag) {
			all = append(all, tag)
		}
	}
	return all
}

// addReferrer lists the manifest among the referrers of its subject; fresh says that the
// manifest's own record is written, too: then whoever takes back an entry of one that was gone
// must not take this one. The caller holds the manifest's lock until all is committed.
func (r *Registry) addReferrer(ctx context.Context, w *batch, k content, desc v1.Descriptor, c origin.Content, fresh bool) error {
	subject := c.Subject.Digest
	desc = asReferrer(desc, c)
	data, err := json.Marshal(desc)
	if err != nil {
		return fmt.Errorf("encode referrer: %w", err)
	}
	name, key := prefixReferrers(k.repo, subject), keyReferrer(k.repo, subject, k.digest)
	done := func() { r.referrers.set(name, newReferrer(desc, len(data))) }
	w.add(intent{
		what:  fmt.Sprintf("referrer %s of %s in %s", k.digest, subject, k.repo),
		write: store.Write{Key: key, Data: data, If: store.Absent()},
		taken: func() error { // by an earlier push of the same bytes
			if fresh && !r.options().Sole {
				if _, err := r.records.Put(ctx, key, data, store.Always()); err != nil {
					r.referrers.forget(name)
					return fmt.Errorf("write referrer %s of %s in %s: %w", k.digest, subject, k.repo, err)
				}
			}
			done() // who listed while there was an entry and no manifest has left it out
			return nil
		},
		done: done,
		// What is not known is listed again.
		failed: func() { r.referrers.forget(name) },
	})
	return nil
}

// asReferrer describes a manifest as the specification has it in a list of referrers.
func asReferrer(desc v1.Descriptor, c origin.Content) v1.Descriptor {
	desc.ArtifactType, desc.Annotations = c.ArtifactType, c.Annotations
	return desc
}

// writeTag lets a tag name the manifest, behind what else is to be written. known
// says that a deletion of the manifest finds the tag without being told, and again that
// one may have dropped the note of a tag that is there. The caller holds the manifest's
// lock.
//
// The tag's lock spans its record, its place in memory and its index, so that two
// pushes of one tag leave all three as the later one wants them.
func (r *Registry) writeTag(ctx context.Context, w batch, k tagKey, desc v1.Descriptor, known, again bool, m mark) error {
	l := r.tagLocks.of(k.repo, k.tag)
	l.Lock()
	defer l.Unlock()
	old, ok := r.tags.sure(k)
	if !ok {
		var err error
		old, err = r.fillTag(ctx, k)
		if err != nil && !origin.Unknown(err) && !errors.Is(err, errDamaged) {
			return err
		}
		ok = err == nil
	}
	same := ok && old.names(desc)
	if !known && (!same || again) {
		// Before the tag itself: a tag that a deletion cannot find would outlive its
		// manifest, while a note of a tag that names something else does no harm.
		w.add(intent{
			what:  fmt.Sprintf("note of tag %s of %s", k.tag, k.repo),
			write: store.Write{Key: keyName(k.repo, desc.Digest, k.tag), Data: []byte("{}"), If: store.Absent()},
			taken: func() error { return r.renote(ctx, k, desc.Digest) },
		})
	}
	if same && time.Since(old.PushedAt) < pushedWithin {
		r.follower.repeat(ctx, keyTag(k.repo, k.tag))
		r.enter(ctx, &w, k.repo, k.tag, desc, m)
		return r.commit(ctx, w)
	}
	if_ := store.Always()
	if r.immutable(k.repo, k.tag) && !same {
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
	r.enter(ctx, &w, k.repo, k.tag, desc, m)
	return r.commit(ctx, w)
}

// forgetTag drops what memory has of a tag after a write that may or may not have
// happened. The caller holds the tag's lock.
func (r *Registry) forgetTag(k tagKey) {
	r.tags.remove(k)
	r.names.forget(prefixTags(k.repo))
}
