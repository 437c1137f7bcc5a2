//go:build clients

package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// rehashIndex reads all that an index leads to and compares it with its digests.
func rehashIndex(index v1.ImageIndex) error {
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	raw, err := index.RawManifest()
	if err != nil {
		return err
	}
	if err := rehash(digest, int64(len(raw)), io.NopCloser(bytes.NewReader(raw))); err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	if len(manifest.Manifests) == 0 {
		return fmt.Errorf("index %s is empty", digest)
	}
	for _, d := range manifest.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			return err
		}
		if err := rehashImage(d.Digest, img); err != nil {
			return err
		}
	}
	return nil
}

// rehashImage reads an image, its config and its layers.
func rehashImage(digest v1.Hash, img v1.Image) error {
	raw, err := img.RawManifest()
	if err != nil {
		return err
	}
	if err := rehash(digest, int64(len(raw)), io.NopCloser(bytes.NewReader(raw))); err != nil {
		return err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	if err := rehash(manifest.Config.Digest, manifest.Config.Size, io.NopCloser(bytes.NewReader(config))); err != nil {
		return err
	}
	if len(manifest.Layers) == 0 {
		return fmt.Errorf("image %s has no layers", digest)
	}
	for _, d := range manifest.Layers {
		layer, err := img.LayerByDigest(d.Digest)
		if err != nil {
			return err
		}
		r, err := layer.Compressed()
		if err != nil {
			return err
		}
		if err := rehash(d.Digest, d.Size, r); err != nil {
			return err
		}
	}
	return nil
}

func rehash(want v1.Hash, size int64, r io.ReadCloser) error {
	got, n, err := v1.SHA256(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("%s: %w", want, err)
	}
	if got != want || n != size {
		return fmt.Errorf("%s of %d bytes reads as %s of %d", want, size, got, n)
	}
	return nil
}
