package doctor

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

// examine pulls as the client does.
func (s *session) examine(ctx context.Context) {
	if !s.locate(ctx) {
		return
	}
	s.introduce(ctx)
	if s.c.pings && !s.ping(ctx) {
		return
	}
	top, ok := s.resolve(ctx)
	if !ok {
		return
	}
	content, ok := s.read(ctx, "manifest", top)
	if !ok {
		return
	}
	if content.Index {
		child, ok := platform(content.Manifests)
		if !ok {
			return
		}
		if content, ok = s.read(ctx, "manifest of a platform", child); !ok {
			return
		}
	}
	if len(content.Blobs) == 0 {
		return
	}
	// The config comes first, and is what there is where an image has no layer.
	whole := s.whole(ctx, "config", content.Blobs[0])
	if layer, ok := smallest(content.Blobs[1:]); ok {
		whole = s.whole(ctx, "layer", layer)
	}
	if whole.size > 1 {
		s.resume(ctx, whole)
	}
	s.absent(ctx, top)
}

// platform picks the manifest that a client here would, or any for an image.
func platform(all []v1.Descriptor) (v1.Descriptor, bool) {
	for _, fits := range []func(p v1.Platform) bool{
		func(p v1.Platform) bool { return p.OS == "linux" && p.Architecture == runtime.GOARCH },
		func(p v1.Platform) bool { return p.OS != "unknown" },
	} {
		for _, d := range all {
			if d.Platform == nil || fits(*d.Platform) {
				return d, true
			}
		}
	}
	return v1.Descriptor{}, false
}

// smallest is the smallest blob that is the registry's to serve.
func smallest(blobs []v1.Descriptor) (v1.Descriptor, bool) {
	blobs = slices.DeleteFunc(slices.Clone(blobs), func(d v1.Descriptor) bool { return len(d.URLs) > 0 || d.Size < 2 })
	if len(blobs) == 0 {
		return v1.Descriptor{}, false
	}
	return slices.MinFunc(blobs, func(a, b v1.Descriptor) int { return int(min(1, max(-1, a.Size-b.Size))) }), true
}

// resolve finds out what the image's tag names.
func (s *session) resolve(ctx context.Context) (v1.Descriptor, bool) {
	if !s.c.heads {
		// podman asks for the manifest straight away, and HEAD is for other commands.
		d, ok := s.byTag(ctx, "manifest by tag")
		if ok {
			s.updates(ctx)
		}
		return d, ok
	}
	const name = "tag"
	r := s.manifest(ctx, http.MethodHead, s.Image.Ref.String(), s.c.accepts)
	r.discard()
	switch {
	case r.is(http.StatusMethodNotAllowed), s.c.kind == dockerClassic && r.err == nil && !r.good():
		d, ok := s.byTag(ctx, name)
		if ok {
			s.note(name, r, r.came(), "asks once more, by GET: Docker Hub counts that as a pull", "answer HEAD as GET, without the body")
		}
		return d, ok
	case !r.good():
		s.denied(name, r, tagged)
		return v1.Descriptor{}, false
	}
	return s.described(ctx, name, r)
}

// described reads the answer to a HEAD.
func (s *session) described(ctx context.Context, name string, r reply) (v1.Descriptor, bool) {
	mediaType, ok := s.typed(name, r)
	if !ok {
		return v1.Descriptor{}, false
	}
	d := v1.Descriptor{MediaType: mediaType, Size: r.answer.ContentLength, Digest: s.Image.Ref.Digest()}
	said := r.header("Docker-Content-Digest")
	if d.Digest == "" && said != "" {
		parsed, err := origin.ParseDigest(said)
		if err != nil {
			s.breaks(name, r, r.came()+", "+quoted("Docker-Content-Digest", said), "fails the pull, and asks nobody else", digestHint)
			return d, false
		}
		d.Digest = parsed
	}
	again := "asks once more, by GET, and any failure of that ends the pull: no other host is asked"
	if s.c.kind == dockerClassic {
		again = "asks once more, by GET: Docker Hub counts that as a pull"
	}
	switch {
	case d.Size > maxManifest:
		s.breaks(name, r, fmt.Sprintf("%s, a manifest of %d bytes", r.came(), d.Size), "takes none of more than 4 MiB, and "+s.goesOn(), "have a smaller manifest")
		return d, false
	case d.Digest == "":
		s.unsaid = true
		s.note(name, r, r.came()+", "+quoted("Docker-Content-Digest", said), again, digestHint)
		return s.byTag(ctx, "manifest by tag")
	case d.Size < 0 && s.c.kind == dockerClassic:
		s.breaks(name, r, r.came()+", no Content-Length", "wants one, and "+s.goesOn(), lengthHint)
		return d, false
	case d.Size < 0:
		s.note(name, r, r.came()+", no Content-Length", again, lengthHint)
		_, ok := s.byTag(ctx, "manifest by tag")
		return d, ok
	}
	s.ok(name, r, short(d.Digest), fmt.Sprintf("%d bytes", d.Size))
	return d, true
}

// byTag gets a manifest by the image's tag, and so what that names.
func (s *session) byTag(ctx context.Context, name string) (v1.Descriptor, bool) {
	r := s.manifest(ctx, http.MethodGet, s.Image.Ref.String(), s.c.accepts)
	if !r.good() {
		s.denied(name, r, tagged)
		return v1.Descriptor{}, false
	}
	mediaType, ok := s.typed(name, r)
	if !ok {
		r.discard()
		return v1.Descriptor{}, false
	}
	b, ok := s.body(name, r)
	if !ok {
		return v1.Descriptor{}, false
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	if want := s.Image.Ref.Digest(); want != "" {
		d.Digest = want.Algorithm().FromBytes(b)
		if d.Digest != want {
			s.other(name, r, d.Digest)
			return d, false
		}
	}
	s.contradicts(name, r, d.Digest)
	s.ok(name, r, short(d.Digest), fmt.Sprintf("%d bytes", d.Size))
	return d, true
}

// updates asks for the tag as "podman auto-update" and "skopeo inspect" do.
func (s *session) updates(ctx context.Context) {
	const name = "tag"
	r := s.manifest(ctx, http.MethodHead, s.Image.Ref.String(), s.c.accepts)
	r.discard()
	said := ""
	if r.err == nil {
		said = r.header("Docker-Content-Digest")
	}
	if r.good() && said != "" {
		s.ok(name, r, origin.Quote(said))
		return
	}
	answer := r.came()
	if r.good() && s.unsaid {
		return
	}
	if r.good() {
		answer += ", no Docker-Content-Digest"
	}
	s.note(name, r, answer, "pulls all the same; podman auto-update does not see new images", "answer HEAD as GET, with Docker-Content-Digest")
}

// read gets a manifest by digest and reads it.
func (s *session) read(ctx context.Context, name string, d v1.Descriptor) (origin.Content, bool) {
	accept := s.c.accepts
	if s.c.likeContainerd() {
		accept = []string{d.MediaType + ", */*"}
	}
	r := s.manifest(ctx, http.MethodGet, d.Digest.String(), accept)
	if !r.good() {
		s.denied(name, r, named)
		return origin.Content{}, false
	}
	mediaType := d.MediaType
	if !s.c.likeContainerd() { // which believes what named the manifest
		var ok bool
		if mediaType, ok = s.typed(name, r); !ok {
			r.discard()
			return origin.Content{}, false
		}
	}
	b, ok := s.body(name, r)
	if !ok {
		return origin.Content{}, false
	}
	if got := d.Digest.Algorithm().FromBytes(b); got != d.Digest {
		s.other(name, r, got)
		return origin.Content{}, false
	}
	s.contradicts(name, r, d.Digest)
	content, err := origin.ReadManifest(mediaType, b)
	if err != nil {
		s.breaks(name, r, r.came()+", no manifest: "+err.Error(), "fails the pull", "push the image again")
		return origin.Content{}, false
	}
	s.ok(name, r, fmt.Sprintf("%d bytes", len(b)))
	return content, true
}

// denied says that the client does not get something, unless it was told why before.
func (s *session) denied(name string, r reply, x what) {
	answer, effect, hint := s.refused(r, x)
	if s.told && r.is(http.StatusUnauthorized) {
		return
	}
	s.breaks(name, r, answer, effect, hint)
}

// body reads a manifest's bytes.
func (s *session) body(name string, r reply) ([]byte, bool) {
	b, err := r.read(maxManifest)
	if err != nil {
		effect := "fails the pull, and asks nobody else"
		if s.c.kind == dockerClassic {
			effect = s.goesOn()
		}
		s.breaks(name, r, fmt.Sprintf("%s, and then: %s", r.came(), cut(err)), effect, cutHint)
		return nil, false
	}
	if e := encoding(r.answer); e != "" {
		s.note(name, r, r.came()+", "+quoted("Content-Encoding", e), "decodes it, and does not know its size", bytesHint)
	}
	return b, true
}

// typed is an answer's media type, if it is one of a manifest.
func (s *session) typed(name string, r reply) (string, bool) {
	said := r.header("Content-Type")
	mediaType, _, _ := strings.Cut(said, ";")
	mediaType = strings.TrimSpace(mediaType)
	if slices.Contains(origin.ManifestTypes(), mediaType) {
		return mediaType, true
	}
	effect := map[kind]string{
		containerd:    "takes it for a blob, and fails the pull",
		dockerStore:   "takes it for a blob, and fails the pull",
		dockerClassic: "does not know such a manifest, and " + s.goesOn(),
		podman:        "takes it for a manifest of schema 1, and fails the pull",
	}[s.c.kind]
	hint := typeHint
	if strings.HasPrefix(mediaType, "text/html") {
		hint = "this is a web page: let /v2/ lead to the registry, past single sign-on and pages for every address"
	}
	s.breaks(name, r, r.came()+", "+quoted("Content-Type", said), effect, hint)
	return "", false
}

// other says that a manifest is not what was asked for.
func (s *session) other(name string, r reply, got digest.Digest) {
	effect := "throws it away and fails the pull: no other host is asked"
	if s.c.kind == dockerClassic {
		effect = "throws it away, and " + s.goesOn()
	}
	s.breaks(name, r, r.came()+", but the bytes are "+short(got), effect, bytesHint)
}

// contradicts notes a digest that is not that of the bytes.
func (s *session) contradicts(name string, r reply, got digest.Digest) {
	said := r.header("Docker-Content-Digest")
	if said == "" {
		if s.unsaid {
			return // once is enough
		}
		s.unsaid = true
	}
	if said == got.String() || said != "" && digest.Digest(said).Algorithm() != got.Algorithm() {
		return
	}
	s.note(name, r, r.came()+", "+quoted("Docker-Content-Digest", said), "does not look at it here; other tools do, and the specification wants it", digestHint)
}
