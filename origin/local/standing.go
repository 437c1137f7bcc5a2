package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// A manifest that one process deletes may be tagged by another one meanwhile. Inside a
// process its lock keeps the two apart; between them, and without any lock:
//
//   - Whoever deletes makes the manifest suspect, by compare-and-swap, then lists what
//     names it and takes that away, and then deletes the manifest if it still is the
//     version that he made suspect. Else he begins anew.
//   - Whoever pushes writes all his records and then reads the manifest. If that is gone, or
//     suspect, he begins anew, which writes it, or clears it by compare-and-swap.
//
// So either the tag was written before the manifest was suspect, and is listed; or whoever
// wrote it sees that and changes the version, and the deletion does not happen.
//
// What is listed are the tags in the manifest's header and the notes. Notes of a manifest
// that is gone go after it, each in the version that was listed while it was there; so a
// push that reads the same version of the manifest before and after it has written a note
// knows that no deletion will take that, and one that reads another begins anew.

// errOvertaken says that another process has written what this one relies upon.
var errOvertaken = errors.New("another process was faster")

const (
	// rounds is how many times a push or a deletion begins, at most. Each round but the first
	// is owed to a change of the manifest by another process just then.
	rounds = 16
	// mostPause is how long it waits before each, from the third on, so that a push and a
	// deletion do not begin anew because of each other for ever.
	mostPause = 100 * time.Millisecond
)

// pause waits before a round, counted from 0, in which nothing is relied upon that was read
// before: it lets go of the manifest's lock meanwhile, which the caller holds, so that what
// other processes say of the manifest is heard. Errors: those of the context.
func (r *Registry) pause(ctx context.Context, k content, round int) error {
	if round < 2 {
		return nil
	}
	l := r.manifestLocks.of(k.repo, k.digest.String())
	l.Unlock()
	defer l.Lock()
	timer := time.NewTimer(rand.N(mostPause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// confirm makes sure, after the records of a push are written, that the manifest is there and
// stays, and that whoever deletes it will find these tags. version is the one that the push
// found, "" if it wrote the manifest. Errors: errOvertaken.
func (r *Registry) confirm(ctx context.Context, k content, version string, tags []string) error {
	m, err := r.loadManifest(ctx, k)
	switch {
	case origin.Unknown(err), err == nil && m.Suspect:
		return errOvertaken
	case err != nil || m.version == version:
		return err
	}
	for _, tag := range tags {
		if !slices.Contains(m.Tags, tag) {
			return errOvertaken
		}
	}
	return nil
}

// doom makes a manifest suspect that is to be deleted, where others may push it meanwhile,
// and gives it. The caller holds its lock. Errors: ErrManifestUnknown.
func (r *Registry) doom(ctx context.Context, k content) (manifest, error) {
	suspect := r.suspectHeld
	if r.options().Sole {
		suspect = func(ctx context.Context, k content, _ bool) (manifest, error) { return r.fillManifest(ctx, k) }
	}
	m, err := suspect(ctx, k, true)
	if errors.Is(err, errDamaged) {
		err = nil // it is given up, and none that anybody relies upon
	}
	return m, err
}

// spareDoomed takes back that a manifest is to be deleted, since err says why it is not. What
// forbids it again, and not at first, was pushed since: then the deletion came before that,
// and has taken what there was. The caller holds its lock.
func (r *Registry) spareDoomed(ctx context.Context, k content, err error, again bool) error {
	if r.options().Sole {
		return err
	}
	if failed := r.relist(ctx, k); failed != nil || again && errors.Is(err, origin.ErrDenied) {
		return failed
	}
	return err
}

// expunge deletes a manifest that nothing names any more, if its record still is as it was
// read, and what was noted of it. The caller holds its lock. Errors: errOvertaken.
func (r *Registry) expunge(ctx context.Context, k content, m manifest, notes notes) error {
	entry, err := r.referrerEntry(ctx, k, m.Subject)
	if err != nil {
		return err
	}
	bereaved := r.bereave(ctx, k)
	if bereaved != nil && !store.NoRoom(bereaved) {
		return bereaved
	}
	r.manifests.remove(k)
	err = r.records.Delete(ctx, keyManifest(k.repo, k.digest), store.Version(m.version))
	switch {
	case errors.Is(err, store.ErrConflict):
		return errOvertaken
	case err != nil && !errors.Is(err, store.ErrNotFound):
		if m.Subject != "" {
			r.referrers.forget(prefixReferrers(k.repo, m.Subject)) // it may be gone
		}
		return fmt.Errorf("delete manifest %s of %s: %w", k.digest, k.repo, err)
	}
	// What was asked for is done, and what may be left of it misleads nobody.
	if bereaved != nil { // that has made room, perhaps
		if err := r.bereave(ctx, k); err != nil {
			r.log.WarnContext(ctx, "referrers of a manifest that is deleted may go before their grace is over", "repository", k.repo.String(), "digest", k.digest.String(), "error", err)
		}
	}
	if err := r.dropReferrer(ctx, k, m.Subject, entry); err != nil {
		r.log.WarnContext(ctx, "the place of a manifest that is deleted among referrers is left", "repository", k.repo.String(), "digest", k.digest.String(), "error", err)
	}
	for _, n := range notes {
		err := r.records.Delete(ctx, keyName(k.repo, k.digest, n.tag), store.Version(n.version))
		if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
			r.log.WarnContext(ctx, "a note of a manifest that is deleted is left", "repository", k.repo.String(), "digest", k.digest.String(), "tag", n.tag, "error", err)
			break
		}
	}
	return nil
}

// relist puts a manifest back among the referrers of its subject that is not deleted after
// all, and clears it. It is a push of that one record, and begins anew as pushes do. The caller
// holds the manifest's lock.
func (r *Registry) relist(ctx context.Context, k content) error {
	var mine string // the version that this wrote
	var at intent
	for round := range rounds {
		if err := r.pause(ctx, k, round); err != nil {
			return err
		}
		m, err := r.suspectHeld(ctx, k, false)
		if origin.Unknown(err) {
			return r.unlist(ctx, at, mine)
		}
		if err != nil {
			return err
		}
		c, err := origin.ReadManifest(m.MediaType, m.bytes)
		if err != nil || c.Subject == nil {
			return err
		}
		var w batch
		if err := r.addReferrer(ctx, &w, k, m.descriptor, c, false); err != nil {
			return err
		}
		at = w[0]
		version, err := r.records.Put(ctx, at.write.Key, at.write.Data, at.write.If)
		switch {
		case errors.Is(err, store.ErrConflict) && mine == "":
			return nil // it never went, or somebody else was faster
		case err == nil:
			mine = version
			at.end(at.done)
		case !errors.Is(err, store.ErrConflict):
			at.end(at.failed)
			return fmt.Errorf("write %s: %w", at.what, err)
		}
		if err := r.confirm(ctx, k, m.version, nil); !errors.Is(err, errOvertaken) {
			return err
		}
	}
	return errOvertaken
}

// unlist takes back what relist wrote of a manifest that is gone. Whoever pushes it again
// writes another version.
func (r *Registry) unlist(ctx context.Context, at intent, version string) error {
	if version == "" {
		return nil
	}
	err := r.records.Delete(ctx, at.write.Key, store.Version(version))
	at.end(at.failed) // to be listed again
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("delete %s: %w", at.what, err)
	}
	return nil
}

// notes are of the tags that came to name a manifest after its first push.
type notes []struct{ tag, version string }

func (n notes) tags() []string {
	tags := make([]string, len(n))
	for i := range n {
		tags[i] = n[i].tag
	}
	return tags
}

// notes gives those of a manifest. Versions are not read where nobody else writes.
func (r *Registry) notes(ctx context.Context, k content) (notes, error) {
	prefix := prefixNames(k.repo, k.digest)
	var all notes
	for e, err := range r.records.List(ctx, prefix, "") {
		if err == nil && e.Version == "" && !r.options().Sole {
			var rec store.Record
			if rec, err = r.records.Get(ctx, e.Key); errors.Is(err, store.ErrNotFound) {
				continue
			}
			e.Version = rec.Version
		}
		if err != nil {
			return nil, fmt.Errorf("list tags of %s in %s: %w", k.digest, k.repo, err)
		}
		all = append(all, struct{ tag, version string }{lastOfKey(e.Key, prefix), e.Version})
	}
	return all, nil
}

// renote writes a note anew that is there: who deletes what it speaks of may have listed it
// already, and then takes only the one that he has listed.
func (r *Registry) renote(ctx context.Context, k tagKey, d digest.Digest) error {
	if r.options().Sole {
		return nil
	}
	if _, err := r.records.Put(ctx, keyName(k.repo, d, k.tag), []byte("{}"), store.Always()); err != nil {
		return fmt.Errorf("write note of tag %s of %s: %w", k.tag, k.repo, err)
	}
	return nil
}
