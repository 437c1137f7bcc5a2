package view

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

const (
	// largestConfig is the largest config that is read, in bytes. Debian's has 1.5 KiB, one
	// with a thousand labels 100 KiB.
	largestConfig = 1 << 20
	// mostSteps is how many entries are shown of each list that a manifest or a config has.
	// Docker refuses an image of more than 127 layers.
	mostSteps = 1000
	// longestType and longestPlatform are the longest media type (RFC 6838) and platform that
	// lists show, in bytes: what an upstream vouches for may say anything.
	longestType     = 255
	longestPlatform = 64
)

// brief is a media type as lists show it.
func brief(mediaType string) string { return mediaType[:min(len(mediaType), longestType)] }

// platformOf is a platform as people write it; "" if it is not known, or none, as that of
// an attestation, or no name of one.
func platformOf(p *v1.Platform) string {
	if p == nil || p.OS == "" || p.OS == "unknown" {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	if len(s) > longestPlatform {
		return ""
	}
	return s
}

// imageConfigs are the media types of configs of images.
func imageConfigs() []string {
	return []string{v1.MediaTypeImageConfig, "application/vnd.docker.container.image.v1+json"}
}

// isArtifact reports whether a manifest is something else than an image or an index of
// images.
func isArtifact(c origin.Content) bool {
	return c.ArtifactType != "" && !slices.Contains(imageConfigs(), c.ArtifactType)
}

// readConfig reads the config of an image, if it has one that is here: what is kept of it
// is what into has room for.
func (v *View) readConfig(ctx context.Context, from origin.Reader, repo origin.Repo, c origin.Content, into any) bool {
	if c.Index || len(c.Blobs) == 0 || !slices.Contains(imageConfigs(), c.Blobs[0].MediaType) {
		return false
	}
	text, err := origin.ReadBlob(ctx, from, repo, c.Blobs[0].Digest, largestConfig)
	return err == nil && json.Unmarshal(text, into) == nil
}

// Manifest describes a manifest. Errors: origin.ErrManifestUnknown, origin.ErrNameInvalid.
func (v *View) Manifest(ctx context.Context, repository string, ref origin.Ref) (Manifest, error) {
	repo, upstream, m, err := v.manifest(ctx, repository, ref)
	if err != nil {
		return Manifest{}, err
	}
	return v.describeManifest(ctx, repo, upstream, m), nil
}

// RawManifest gives a manifest's exact bytes. Errors: as Manifest.
func (v *View) RawManifest(ctx context.Context, repository string, ref origin.Ref) (origin.Manifest, error) {
	_, _, m, err := v.manifest(ctx, repository, ref)
	return m, err
}

// manifest finds what may be pulled, and where it is.
func (v *View) manifest(ctx context.Context, repository string, ref origin.Ref) (repo origin.Repo, upstream string, m origin.Manifest, err error) {
	if err := v.listing(ctx, "manifests"); err != nil {
		return repo, upstream, m, err
	}
	unknown := origin.Errorf(origin.ErrManifestUnknown, "manifest %s of %s is not here", ref, origin.Quote(repository))
	repo, upstream, err = v.find(ctx, repository)
	if origin.Unknown(err) {
		err = unknown
	}
	if err != nil {
		return repo, upstream, m, err
	}
	if !v.opts.Guard.May(ctx, repo, authz.Access{
		Action: authz.Pull, Operation: "get-manifest", Tag: ref.Tag(), Digest: ref.Digest().String(),
	}) {
		return repo, upstream, m, unknown
	}
	m, err = v.opts.Here.Manifest(ctx, repo, ref)
	if origin.Unknown(err) {
		err = unknown
	}
	return repo, upstream, m, err
}

func (v *View) describeManifest(ctx context.Context, repo origin.Repo, upstream string, m origin.Manifest) Manifest {
	shown := Manifest{
		Repository: repo.String(), Upstream: upstream,
		Digest: m.Digest, MediaType: m.MediaType, Size: int64(len(m.Bytes)),
		Annotations: map[string]string{}, Layers: []Layer{}, History: []Step{}, Manifests: []Child{},
	}
	content, err := origin.ReadManifest(m.MediaType, m.Bytes)
	if err != nil {
		return shown // it is kept as it is, and nothing can be said of it
	}
	shown.Annotations = some(content.Annotations, &shown)
	if isArtifact(content) {
		shown.ArtifactType = content.ArtifactType
	}
	if content.Subject != nil {
		shown.Subject = content.Subject.Digest
	}
	if content.Index {
		shown.Manifests = v.children(ctx, repo, first(content.Manifests, &shown))
	} else {
		v.addImage(ctx, repo, content, &shown)
	}
	return shown
}

// children describes what an index names. Whether one is here is said to who may pull it.
func (v *View) children(ctx context.Context, repo origin.Repo, manifests []v1.Descriptor) []Child {
	list := []Child{}
	for i, d := range manifests {
		child := Child{
			Digest: d.Digest, MediaType: d.MediaType, Size: d.Size, ArtifactType: d.ArtifactType,
			Platform: platformOf(d.Platform), Annotations: orEmpty(d.Annotations),
		}
		if i < mostShown-2 { // and the two that were asked for the manifest
			_, err := v.opts.Guard.Manifest(ctx, repo, origin.ByDigest(d.Digest))
			child.Here = err == nil
		}
		list = append(list, child)
	}
	return list
}

// addImage adds what a manifest that is no index names, and what its config says.
func (v *View) addImage(ctx context.Context, repo origin.Repo, c origin.Content, shown *Manifest) {
	blobs := c.Blobs
	if len(blobs) > 0 {
		d := blobs[0]
		blobs = blobs[1:]
		shown.Config = &Config{
			Digest: d.Digest, MediaType: d.MediaType, Size: d.Size,
			Entrypoint: []string{}, Cmd: []string{}, Env: []string{}, ExposedPorts: []string{}, Volumes: []string{}, Labels: map[string]string{},
		}
	}
	for _, d := range first(blobs, shown) {
		shown.Layers = append(shown.Layers, Layer{
			Digest: d.Digest, MediaType: d.MediaType, Size: d.Size, Annotations: orEmpty(d.Annotations), Foreign: len(d.URLs) > 0,
		})
	}
	var image v1.Image
	if !v.readConfig(ctx, v.opts.Guard, repo, c, &image) {
		return
	}
	is := image.Config
	config := shown.Config
	config.Read, config.Author, config.User, config.WorkingDir, config.StopSignal = true, image.Author, is.User, is.WorkingDir, is.StopSignal
	config.Entrypoint, config.Cmd = append(config.Entrypoint, first(is.Entrypoint, shown)...), append(config.Cmd, first(is.Cmd, shown)...)
	config.Env = append(config.Env, first(is.Env, shown)...)
	config.ExposedPorts = append(config.ExposedPorts, first(slices.Sorted(maps.Keys(is.ExposedPorts)), shown)...)
	config.Volumes = append(config.Volumes, first(slices.Sorted(maps.Keys(is.Volumes)), shown)...)
	config.Labels = some(is.Labels, shown)
	shown.Platform = platformOf(&image.Platform)
	if image.Created != nil {
		shown.Created = when(*image.Created)
	}
	next := 0
	for _, h := range first(image.History, shown) {
		step := Step{CreatedBy: h.CreatedBy, Comment: h.Comment, Layer: -1}
		if h.Created != nil {
			step.Created = when(*h.Created)
		}
		if !h.EmptyLayer && next < len(shown.Layers) {
			step.Layer, next = next, next+1
		}
		shown.History = append(shown.History, step)
	}
}

// first is what is shown of a list: m says if that is not all.
func first[T any](list []T, m *Manifest) []T {
	m.Shortened = m.Shortened || len(list) > mostSteps
	return list[:min(len(list), mostSteps)]
}

// some is what is shown of a map: the first of its keys. m says if that is not all.
func some(all map[string]string, m *Manifest) map[string]string {
	if len(all) <= mostSteps {
		return orEmpty(all)
	}
	shown := map[string]string{}
	for _, key := range first(slices.Sorted(maps.Keys(all)), m) {
		shown[key] = all[key]
	}
	return shown
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// Referrers lists the manifests here whose subject is d. An unknown one has none.
// Errors: origin.ErrNameInvalid.
func (v *View) Referrers(ctx context.Context, repository string, d digest.Digest, p origin.Page) (origin.List[Referrer], error) {
	var shown origin.List[Referrer]
	if err := v.listing(ctx, "referrers"); err != nil {
		return shown, err
	}
	repo, _, err := v.find(ctx, repository)
	if origin.Unknown(err) {
		return shown, nil
	}
	if err != nil {
		return shown, err
	}
	if !v.opts.Guard.May(ctx, repo, authz.Access{Action: authz.Pull, Operation: "get-referrers", Digest: d.String()}) {
		return shown, nil
	}
	p.N = min(p.N, mostShown)
	list, err := guard.List(ctx, v.opts.Guard, guard.Listing[origin.Descriptor]{
		Of: "referrers of " + d.String() + " in " + repo.String(),
		Page: func(p origin.Page) (origin.List[origin.Descriptor], error) {
			return v.opts.Here.Referrers(ctx, repo, d, "", p)
		},
		Name: func(d origin.Descriptor) string { return d.Digest.String() },
		What: func(d origin.Descriptor) (origin.Repo, authz.Access) {
			return repo, authz.Access{Action: authz.Pull, Operation: "get-manifest", Digest: d.Digest.String()}
		},
	}, p)
	if origin.Unknown(err) {
		return shown, nil
	}
	shown.More, shown.Next = list.More, list.Next
	for _, r := range list.Items {
		shown.Items = append(shown.Items, Referrer{
			Digest: r.Digest, MediaType: brief(r.MediaType), Size: r.Size, ArtifactType: brief(r.ArtifactType), Annotations: orEmpty(r.Annotations),
		})
	}
	return shown, err
}

// Blob opens a blob for whoever may pull it. Errors: origin.ErrBlobUnknown,
// origin.ErrNameInvalid.
func (v *View) Blob(ctx context.Context, repository string, d digest.Digest) (origin.Blob, error) {
	unknown := origin.Errorf(origin.ErrBlobUnknown, "blob %s of %s is not here", d, origin.Quote(repository))
	repo, _, err := v.find(ctx, repository)
	if err == nil && !v.opts.Guard.May(ctx, repo, authz.Access{Action: authz.Pull, Operation: "get-blob", Digest: d.String()}) {
		err = unknown
	}
	if err == nil {
		var blob origin.Blob
		if blob, err = origin.Open(ctx, v.opts.Here, repo, d); err == nil {
			return blob, nil
		}
	}
	if origin.Unknown(err) {
		err = unknown
	}
	return origin.Blob{}, err
}
