package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// architectures are what there is an image for.
var architectures = []string{"amd64", "arm64"}

const (
	annotationCreated = "org.opencontainers.image.created"
	annotationRefName = "org.opencontainers.image.ref.name"
)

// release is what is shipped.
type release struct {
	version, commit string
	created         time.Time
	copyright       []byte // the terms of all that is in it
}

// timestamp is when, as labels say it.
func (r release) timestamp() string { return r.created.Format(time.RFC3339) }

// labels are of the images and, as annotations, of their manifests and of the index.
func (r release) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "weir",
		"org.opencontainers.image.description": "An OCI registry, and a mirror of others",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.source":      "https://github.com/weir-registry/weir",
		"org.opencontainers.image.version":     r.version,
		"org.opencontainers.image.revision":    r.commit,
		annotationCreated:                      r.timestamp(),
	}
}

// built is an index of images, and what refers to it and to them.
type built struct {
	release   release
	index     v1.ImageIndex
	referrers []v1.Image
}

// platformImage is an image that an index names without an artifact type: it has none.
type platformImage struct{ v1.Image }

// ArtifactType is what partial.Descriptor asks for.
func (platformImage) ArtifactType() (string, error) { return "", nil }

// build makes the images of a release from its binaries; signer: nil signs nothing.
func build(ctx context.Context, r release, s *signer, binary func(arch string) string) (*built, error) {
	b := &built{release: r, index: mutate.IndexMediaType(empty.Index, types.OCIImageIndex)}
	refer := func(a v1.Image, err error) error {
		b.referrers = append(b.referrers, a)
		return err
	}
	for _, arch := range architectures {
		weir, err := os.ReadFile(binary(arch))
		if err != nil {
			return nil, err
		}
		image, err := newImage(r, arch, weir)
		if err != nil {
			return nil, err
		}
		described, err := partial.Descriptor(image)
		if err != nil {
			return nil, err
		}
		described.Platform = &v1.Platform{OS: "linux", Architecture: arch}
		b.index = mutate.AppendManifests(b.index, mutate.IndexAddendum{Add: image, Descriptor: *described})
		if err := refer(newSBOM(r, arch, weir, *described)); err != nil {
			return nil, err
		}
		if s == nil {
			continue
		}
		if err := refer(s.sign(ctx, r, *described)); err != nil {
			return nil, err
		}
	}
	b.index = mutate.Annotations(b.index, r.labels()).(v1.ImageIndex)
	if s == nil {
		return b, nil
	}
	described, err := partial.Descriptor(b.index)
	if err != nil {
		return nil, err
	}
	return b, refer(s.sign(ctx, r, *described))
}

// newImage makes the image for one architecture.
func newImage(r release, arch string, weir []byte) (v1.Image, error) {
	user := strconv.Itoa(nonroot)
	image, err := mutate.ConfigFile(
		mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		&v1.ConfigFile{
			OS: "linux", Architecture: arch, Created: v1.Time{Time: r.created}, RootFS: v1.RootFS{Type: "layers"},
			Config: v1.Config{
				User:         user + ":" + user,
				Env:          []string{"PATH=/usr/bin"},
				Entrypoint:   []string{"/usr/bin/weir"},
				Cmd:          []string{"serve", "--config", "/etc/weir/weir.yaml"},
				WorkingDir:   "/", // whoever runs it: a sidecar that is root without capabilities may not enter /data
				ExposedPorts: map[string]struct{}{"5000/tcp": {}},
				Volumes:      map[string]struct{}{"/data": {}},
				StopSignal:   "SIGTERM",
				Labels:       r.labels(),
			},
		})
	if err != nil {
		return nil, err
	}
	l, err := layer(files(weir, r.copyright), r.created)
	if err != nil {
		return nil, err
	}
	image, err = mutate.Append(image, mutate.Addendum{Layer: l, History: v1.History{Created: v1.Time{Time: r.created}, CreatedBy: "weir " + r.version}})
	if err != nil {
		return nil, err
	}
	return platformImage{mutate.Annotations(image, r.labels()).(v1.Image)}, nil
}

// write makes an image layout.
func (b *built) write(dir string) error {
	if there, err := os.ReadDir(dir); err == nil && len(there) > 0 {
		return fmt.Errorf("it has %s and more", there[0].Name())
	}
	root := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{
		Add:        b.index,
		Descriptor: v1.Descriptor{Annotations: map[string]string{annotationRefName: b.release.version}},
	})
	for _, r := range b.referrers {
		root = mutate.AppendManifests(root, mutate.IndexAddendum{Add: r})
	}
	_, err := layout.Write(dir, root)
	return err
}

// push sends all of it to a registry, and the tag last: who finds the image by it finds
// its signature.
func (b *built) push(ctx context.Context, ref name.Tag) error {
	digest, err := b.index.Digest()
	if err != nil {
		return err
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if err := remote.WriteIndex(ref.Context().Digest(digest.String()), b.index, options...); err != nil {
		return err
	}
	for _, r := range b.referrers {
		if digest, err = r.Digest(); err != nil {
			return err
		}
		if err := remote.Write(ref.Context().Digest(digest.String()), r, options...); err != nil {
			return fmt.Errorf("referrer %s: %w", digest, err)
		}
	}
	return remote.Put(ref, b.index, options...)
}
