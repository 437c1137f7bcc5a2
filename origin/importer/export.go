package importer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Image is an image that is to be exported.
type Image struct {
	Name string // as it was asked for
	// Whole is what its repository is called everywhere, with the registry in front that
	// it is mirrored from.
	Whole string
	Repo  origin.Repo
	Ref   origin.Ref
}

// Export puts images into the OCI image layout in dir, which it makes unless it is there,
// with all that refers to them; and gives how many failed, each of which was shown. An
// image of which something is not in from is not exported, nor is one that is corrupt
// there. What else is in the layout stays.
//
// Each entry of its index has the specification's name, a tag or a digest, and the whole
// name: that of what refers to an image is its repository and its own digest.
//
// An error ends the export. Errors: ErrNoLayout, where dir holds something else;
// ErrExporting.
func Export(ctx context.Context, from origin.Reader, dir string, images []Image, show Show) (failed int, err error) {
	w, err := openLayout(dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	for _, image := range images {
		if err := ctx.Err(); err != nil {
			return failed, context.Cause(ctx)
		}
		if err := export(ctx, from, w, image, show); err != nil {
			if ctx.Err() != nil {
				return failed, context.Cause(ctx)
			}
			failed++
			show.Failed(image.Name, told(err))
		}
	}
	return failed, nil
}

// export puts one image into a layout.
func export(ctx context.Context, from origin.Reader, w *layoutWriter, image Image, show Show) error {
	s := survey{from: from, image: image, seen: map[digest.Digest]struct{}{}}
	if err := s.top(ctx); err != nil {
		return err
	}
	if len(s.missing) > 0 {
		return fmt.Errorf("is not whole here, and not exported: there is no %s", strings.Join(s.missing, ", no "))
	}
	defer w.discard()
	for _, m := range s.manifests {
		if err := w.manifest(m); err != nil {
			return err
		}
	}
	done := Summary{Manifests: len(s.manifests), Blobs: len(s.blobs)}
	for _, b := range s.blobs {
		done.Bytes += b.Size
		if err := exportBlob(ctx, from, w, image, b, show); err != nil {
			return fmt.Errorf("blob %s: %w", b.Digest, err)
		}
	}
	if err := w.add(s.entries); err != nil {
		return err
	}
	show.Done(image.Name, s.entries[0].Digest, done)
	return nil
}

func exportBlob(ctx context.Context, from origin.Reader, w *layoutWriter, image Image, want v1.Descriptor, show Show) error {
	if there, err := w.has(ctx, want); there || err != nil {
		return err
	}
	b, err := from.Blob(ctx, image.Repo, want.Digest, store.Range{})
	if err != nil {
		return told(err)
	}
	defer b.Body.Close()
	bar := show.Blob(image.Name, want)
	err = w.blob(reading{ctx, b.Body, bar}, want)
	bar.End(err)
	return err
}

// survey gathers what an image needs, and what of that is missing.
type survey struct {
	from  origin.Reader
	image Image

	seen      map[digest.Digest]struct{}
	manifests []origin.Manifest
	blobs     []v1.Descriptor
	entries   []v1.Descriptor // of the index: the image, and what refers to it
	missing   []string
}

// top gathers all of the image. Errors: origin.ErrManifestUnknown, where nothing has its
// name.
func (s *survey) top(ctx context.Context) error {
	m, err := s.from.Manifest(ctx, s.image.Repo, s.image.Ref)
	if err != nil {
		return err
	}
	s.entry(m, s.image.Ref)
	return s.manifest(ctx, m, deepest)
}

// entry makes a manifest an entry of its own, by a tag or by its digest.
func (s *survey) entry(m origin.Manifest, ref origin.Ref) {
	whole := s.image.Whole + ":" + ref.Tag()
	if ref.Tag() == "" {
		whole = s.image.Whole + "@" + m.Digest.String()
	}
	s.entries = append(s.entries, v1.Descriptor{
		MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Bytes)),
		Annotations: map[string]string{v1.AnnotationRefName: ref.String(), annotationName: whole},
	})
}

// manifest gathers what a manifest names, and what refers to it.
func (s *survey) manifest(ctx context.Context, m origin.Manifest, depth int) error {
	if _, ok := s.seen[m.Digest]; ok {
		return nil
	}
	if depth == 0 {
		return errors.New("its indexes are nested too deep")
	}
	s.seen[m.Digest] = struct{}{}
	s.manifests = append(s.manifests, m)
	content, err := origin.ReadManifest(m.MediaType, m.Bytes)
	if err != nil {
		return err
	}
	for _, b := range content.Blobs {
		if err := s.blob(ctx, b); err != nil {
			return err
		}
	}
	for _, c := range content.Manifests {
		child, err := s.from.Manifest(ctx, s.image.Repo, origin.ByDigest(c.Digest))
		switch {
		case err == nil:
			err = s.manifest(ctx, child, depth-1)
		case origin.Unknown(err) && !isManifest(c.MediaType):
			err = s.blob(ctx, c)
		case origin.Unknown(err):
			s.missing = append(s.missing, "manifest "+c.Digest.String()+platform(c.Platform))
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return s.referrers(ctx, m.Digest, depth)
}

func (s *survey) blob(ctx context.Context, want v1.Descriptor) error {
	if _, ok := s.seen[want.Digest]; ok {
		return nil
	}
	s.seen[want.Digest] = struct{}{}
	have, err := s.from.Stat(ctx, s.image.Repo, want.Digest)
	switch {
	case origin.Unknown(err) && len(want.URLs) > 0: // it is somewhere else, and clients fetch it there
	case origin.Unknown(err):
		s.missing = append(s.missing, "blob "+want.Digest.String())
	case err != nil:
		return err
	case have.Size != want.Size:
		return fmt.Errorf("blob %s has %d bytes here, not %d", want.Digest, have.Size, want.Size)
	default:
		s.blobs = append(s.blobs, want)
	}
	return nil
}

// referrers gathers what refers to a manifest, each as an entry of its own: that is where
// readers of a layout look.
func (s *survey) referrers(ctx context.Context, d digest.Digest, depth int) error {
	const atOnce = 1000
	page := origin.Page{N: atOnce}
	for {
		list, err := s.from.Referrers(ctx, s.image.Repo, d, "", page)
		if err != nil {
			return err
		}
		for _, r := range list.Items {
			if _, ok := s.seen[r.Digest]; ok {
				continue
			}
			m, err := s.from.Manifest(ctx, s.image.Repo, origin.ByDigest(r.Digest))
			if origin.Unknown(err) {
				continue // deleted since it was listed, or known of and never fetched
			}
			if err != nil {
				return err
			}
			s.entry(m, origin.ByDigest(m.Digest))
			if err := s.manifest(ctx, m, depth-1); err != nil {
				return err
			}
		}
		if !list.More || len(list.Items) == 0 && list.Next == "" {
			return nil
		}
		if page.After = list.Next; page.After == "" {
			page.After = list.Items[len(list.Items)-1].Digest.String()
		}
	}
}

func isManifest(mediaType string) bool {
	return slices.Contains(origin.ManifestTypes(), mediaType)
}

// platform is what a manifest of an index is for, in brackets.
func platform(p *v1.Platform) string {
	if p == nil {
		return ""
	}
	return " (" + strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/") + ")"
}

// makeDir makes a directory unless it is there.
func makeDir(name string) error {
	if err := os.Mkdir(name, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}
