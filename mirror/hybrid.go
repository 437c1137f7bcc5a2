package mirror

import (
	"context"
	"errors"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// A hybrid is a mirrored repository that takes pushes too (Upstream.Writable). What
// was pushed lies in the origin, under its tags; what is mirrored lies there without
// any. So a tag that the origin has was pushed, and stands before the upstream's.

// pushed gives a manifest of a hybrid that the origin has. ok is false where the
// upstream is to be asked.
func (m *Mirror) pushed(ctx context.Context, p place, ref origin.Ref) (man origin.Manifest, ok bool, err error) {
	if !p.upstream.Writable {
		return man, false, nil
	}
	man, err = m.origin.Manifest(ctx, p.repo, ref)
	if origin.Unknown(err) {
		return origin.Manifest{}, false, nil
	}
	man.Source = origin.Source{Cache: origin.Hit}
	return man, err == nil, err
}

// pushedDescriptor is pushed without the bytes.
func (m *Mirror) pushedDescriptor(ctx context.Context, p place, ref origin.Ref) (d origin.Descriptor, ok bool, err error) {
	if !p.upstream.Writable {
		return d, false, nil
	}
	d, err = m.origin.Resolve(ctx, p.repo, ref)
	if origin.Unknown(err) {
		return origin.Descriptor{}, false, nil
	}
	d.Source = origin.Source{Cache: origin.Hit}
	return d, err == nil, err
}

// pushedTags lists the tags that were pushed to a hybrid.
func (m *Mirror) pushedTags(ctx context.Context, p place, page origin.Page) (origin.List[string], error) {
	if !p.upstream.Writable {
		return origin.List[string]{}, nil
	}
	list, err := m.origin.Tags(ctx, p.repo, page)
	if origin.Unknown(err) {
		err = nil
	}
	return list, err
}

// confirm pushes what man, an index that is pushed to a hybrid, names and weir has from
// the upstream: what a pushed index names is pushed content, all of it here. What is
// only at the upstream is missing.
func (m *Mirror) confirm(ctx context.Context, repo origin.Repo, man origin.Manifest, looked once) error {
	content, err := origin.ReadManifest(man.MediaType, man.Bytes)
	if err != nil {
		return err
	}
	for _, c := range content.Manifests {
		if looked.again(c.Digest) {
			continue
		}
		child, err := m.state.manifest(ctx, contentKey{repo, c.Digest})
		if errors.Is(err, store.ErrNotFound) {
			continue // pushed here, or Push will say that it is missing
		}
		if err != nil {
			return err
		}
		if err := m.confirm(ctx, repo, child, looked); err != nil {
			return err
		}
		if _, err := m.origin.Push(ctx, repo, child, origin.PushOptions{}); err != nil {
			return err
		}
	}
	return nil
}
