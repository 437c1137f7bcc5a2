package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/origin"
)

// intake takes content into one repository.
type intake struct {
	*taker
	repo      origin.Repo
	from      source
	manifests memo
	blobs     memo
}

// manifest takes a manifest, and first all that it names; mediaType is what others say of
// it, "" where nobody does. What is wrong with several of these is said of all.
func (in *intake) manifest(ctx context.Context, d digest.Digest, mediaType string, depth int) error {
	return in.manifests.do(d, func() error {
		if depth == 0 {
			return errors.New("its indexes are nested too deep")
		}
		b, err := in.from.manifest(ctx, d)
		if err != nil {
			return err
		}
		mediaType = typeOf(b, mediaType)
		if strings.HasPrefix(mediaType, schema1) {
			return errors.New("is an image manifest of schema 1, which is not taken: pull and push it with a client that converts it")
		}
		content, err := origin.CheckManifest(mediaType, b)
		if err != nil {
			return told(err)
		}
		if err := in.named(ctx, content, depth); err != nil {
			return err
		}
		return in.push(ctx, origin.Manifest{
			Descriptor: origin.Descriptor{Descriptor: v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}},
			Bytes:      b,
		})
	})
}

// named takes what a manifest names. The error names all that is not taken.
func (in *intake) named(ctx context.Context, content origin.Content, depth int) error {
	errs := make([]error, len(content.Blobs)+len(content.Manifests))
	var group errgroup.Group
	for i, b := range content.Blobs {
		group.Go(func() error {
			errs[i] = in.blob(ctx, b)
			if len(b.URLs) > 0 && errors.Is(errs[i], errNotThere) {
				errs[i] = nil // it is somewhere else, and clients fetch it there
			}
			return nil
		})
	}
	_ = group.Wait() // what fails is in errs
	for i, m := range content.Manifests {
		err := &errs[len(content.Blobs)+i]
		if !slices.Contains(origin.ManifestTypes(), m.MediaType) {
			*err = in.blob(ctx, m)
			continue
		}
		if *err = in.manifest(ctx, m.Digest, m.MediaType, depth-1); *err != nil {
			*err = fmt.Errorf("manifest %s: %w", m.Digest, *err)
		}
	}
	return errors.Join(errs...)
}

// push stores a manifest, all that it names being there, unless it is there.
func (in *intake) push(ctx context.Context, m origin.Manifest) error {
	old, err := in.to.Resolve(ctx, in.repo, origin.ByDigest(m.Digest))
	switch {
	case err == nil && old.MediaType == m.MediaType:
		in.count(func(s *Summary) { s.Present++ })
		return nil
	case err != nil && !wanting(err):
		return told(err)
	}
	if _, err := in.to.Push(ctx, in.repo, m, origin.PushOptions{}); err != nil {
		return told(err)
	}
	in.count(func(s *Summary) { s.Manifests++ })
	return nil
}

// tag lets a tag name a manifest that was taken.
func (in *intake) tag(ctx context.Context, name string, d digest.Digest) error {
	ref, err := origin.ParseTag(name)
	if err != nil {
		return told(err)
	}
	old, err := in.to.Resolve(ctx, in.repo, ref)
	switch {
	case err == nil && old.Digest == d:
		in.count(func(s *Summary) { s.Present++ })
		return nil
	case err != nil && !wanting(err):
		return told(err)
	}
	m, err := in.to.Manifest(ctx, in.repo, origin.ByDigest(d))
	if err != nil {
		return told(err)
	}
	if _, err := in.to.Push(ctx, in.repo, m, origin.PushOptions{Tags: []origin.Ref{ref}}); err != nil {
		return told(err)
	}
	in.count(func(s *Summary) { s.Tags++ })
	if old.Digest != "" {
		in.opts.Show.Moved(in.repo.String()+":"+name, old.Digest, d)
	}
	return nil
}

// wanting reports whether err says that something is not there, or damaged: either is
// mended by a push.
func wanting(err error) bool { return origin.Unknown(err) || errors.Is(err, origin.ErrDamaged) }

// schema1 begins the media types of manifests that are signed, or could be.
const schema1 = "application/vnd.docker.distribution.manifest.v1+"

// typeOf is the media type that a manifest says it has, else what others say, else what
// Distribution takes it for: an index has manifests, an image none, and schema 1 its own
// version.
func typeOf(b []byte, said string) string {
	var says struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []json.RawMessage `json:"manifests"`
	}
	// What cannot be read is refused by who reads all of it.
	_ = json.Unmarshal(b, &says)
	switch {
	case says.SchemaVersion == 1:
		return schema1 + "json"
	case says.MediaType != "":
		return says.MediaType
	case said != "":
		return said
	case says.Manifests != nil:
		return origin.MediaTypeOCIIndex
	default:
		return origin.MediaTypeOCIManifest
	}
}

// told is an error of a registry in the words that a client is told, with what its detail
// names; any other error as it is.
func told(err error) error {
	e, ok := errors.AsType[*origin.Error](err)
	if !ok {
		return err
	}
	var message strings.Builder
	message.WriteString(e.Message)
	if missing, ok := e.Detail.([]digest.Digest); ok {
		for i, d := range missing {
			message.WriteString(either(i == 0, ": ", ", ") + d.String())
		}
	}
	return plainError{message.String(), err}
}

// plainError says of an error what people are told.
type plainError struct {
	message string
	err     error
}

func (e plainError) Error() string { return e.message }

func (e plainError) Unwrap() error { return e.err }

func either(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}
