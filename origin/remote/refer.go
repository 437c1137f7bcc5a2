package remote

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

// An endpoint that has no API of referrers has a tag in its place, an index, which
// whoever pushes keeps up (OCI Distribution 1.1, "Unavailable Referrers API"). Pushes
// by other clients at the same moment may overwrite each other's; here they wait.

// locks are as many as there are bytes: subjects share them.
type locks [256]sync.Mutex

// of gives the lock of a subject.
func (l *locks) of(subject digest.Digest) *sync.Mutex {
	var b [1]byte
	_, _ = hex.Decode(b[:], []byte(subject.Encoded()[:2])) // a digest is in hex
	return &l[b[0]]
}

// refer adds a manifest to the referrers of its subject.
func (o *Origin) refer(ctx context.Context, repo origin.Repo, m origin.Manifest, content origin.Content) error {
	d := o.described(m).Descriptor
	d.ArtifactType, d.Annotations = content.ArtifactType, content.Annotations
	return o.reindex(ctx, repo, content.Subject.Digest, func(list []v1.Descriptor) []v1.Descriptor {
		list = slices.DeleteFunc(list, func(other v1.Descriptor) bool { return other.Digest == d.Digest })
		return append(list, d)
	})
}

// unrefer takes a manifest out of the referrers of its subject.
func (o *Origin) unrefer(ctx context.Context, repo origin.Repo, subject, referrer digest.Digest) error {
	return o.reindex(ctx, repo, subject, func(list []v1.Descriptor) []v1.Descriptor {
		return slices.DeleteFunc(list, func(other v1.Descriptor) bool { return other.Digest == referrer })
	})
}

// reindex changes the index of a subject's referrers.
func (o *Origin) reindex(ctx context.Context, repo origin.Repo, subject digest.Digest, change func([]v1.Descriptor) []v1.Descriptor) error {
	lock := o.indexes.of(subject)
	lock.Lock()
	defer lock.Unlock()
	ref, err := fallbackTag(subject)
	if err != nil {
		return err
	}
	index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{}}
	index.SchemaVersion = 2
	kept, err := o.manifest(ctx, repo, ref)
	switch {
	case err == nil:
		if err := json.Unmarshal(kept.Bytes, &index); err != nil {
			return o.failure(ctx, origin.ErrManifestUnknown, wrongAnswer("malformed JSON"))
		}
	case !missing(err):
		return o.failure(ctx, origin.ErrManifestUnknown, err)
	}
	before := len(index.Manifests)
	index.Manifests = change(slices.Clone(index.Manifests))
	if len(index.Manifests) == 0 && before == 0 {
		return nil
	}
	b, err := json.Marshal(index)
	if err != nil {
		return err
	}
	m := origin.Manifest{Bytes: b}
	m.MediaType, m.Digest, m.Size = v1.MediaTypeImageIndex, digest.FromBytes(b), int64(len(b))
	_, err = o.put(ctx, repo, m, []origin.Ref{ref})
	return err
}

// subject gives the subject of a manifest that is about to be deleted by its digest, if
// the endpoint has no API of referrers.
func (o *Origin) subject(ctx context.Context, repo origin.Repo, ref origin.Ref) (*v1.Descriptor, error) {
	if ref.Digest() == "" {
		return nil, nil
	}
	m, err := o.manifest(ctx, repo, ref)
	if err != nil {
		return nil, o.failure(ctx, origin.ErrManifestUnknown, err)
	}
	content, err := origin.ReadManifest(m.MediaType, m.Bytes)
	if err != nil || content.Subject == nil {
		return nil, nil
	}
	tag, err := fallbackTag(content.Subject.Digest)
	if err != nil {
		return nil, nil
	}
	switch _, _, err := o.head(ctx, repo, tag); {
	case missing(err):
		return nil, nil
	case err != nil:
		return nil, o.failure(ctx, origin.ErrManifestUnknown, err)
	}
	return content.Subject, nil
}

// missing reports whether an endpoint said that something is not there.
func missing(err error) bool {
	refused, ok := errors.AsType[*refusal](err)
	return ok && (refused.status == http.StatusNotFound || refused.status == http.StatusGone)
}

// fallbackTag is the tag that stands in for the referrers of d.
func fallbackTag(d digest.Digest) (origin.Ref, error) {
	encoded := d.Encoded()
	return origin.ParseTag(d.Algorithm().String() + "-" + encoded[:min(len(encoded), 64)])
}
