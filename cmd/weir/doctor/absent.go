package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// nowhere is what no server has.
const nowhere = "weir-doctor-asks-for-what-is-not-there"

// absent asks for what is not there: what a client does then depends on how it is
// told.
func (s *session) absent(ctx context.Context, top v1.Descriptor) {
	switch s.c.kind {
	case podman:
		// Where a policy wants signatures of cosign it asks for their tag.
		d := top.Digest
		s.missing(ctx, "signatures", http.MethodGet, string(d.Algorithm())+"-"+d.Encoded()+".sig", true)
	case dockerClassic:
		s.missing(ctx, "tag that is not there", http.MethodGet, nowhere, false)
	default:
		s.missing(ctx, "tag that is not there", http.MethodHead, nowhere, false)
	}
	if s.ns != "" {
		s.elsewhere(ctx)
	}
	if s.c.kind == containerd {
		s.referrers(ctx, top)
	}
}

// missing asks for a tag that is not there, or need not be.
func (s *session) missing(ctx context.Context, name, method, tag string, may bool) {
	r := s.manifest(ctx, method, tag, s.c.accepts)
	if method == http.MethodHead && r.is(http.StatusMethodNotAllowed) {
		r.discard()
		r = s.manifest(ctx, http.MethodGet, tag, s.c.accepts)
	}
	if r.err != nil {
		s.breaks(name, r, r.came(), s.goesOn(), silent)
		return
	}
	if r.good() {
		r.discard()
		if may {
			s.ok(name, r)
			return
		}
		s.breaks(name, r, r.came(), "takes it for the image", "answer 404, MANIFEST_UNKNOWN, for what is not there")
		return
	}
	answer, effect, hint := s.refused(r, tagged)
	switch status := r.answer.StatusCode; {
	case status == http.StatusNotFound && strings.HasSuffix(answer, "a web page"), status == http.StatusNotFound && strings.HasSuffix(answer, "no OCI error"):
		s.note(name, r, answer, effect+"; where that is the last place, the error shows no reason", "answer errors as OCI's JSON")
	case status == http.StatusNotFound, status == http.StatusUnauthorized, status == http.StatusForbidden:
		s.add(OK, name, r.line, answer, "", "")
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		s.breaks(name, r, answer, effect, hint)
	default:
		s.note(name, r, answer, effect+", but says that the server is broken where a name was mistyped",
			"answer 404, MANIFEST_UNKNOWN, for what is not there")
	}
}

// elsewhere asks for an image of a registry that the server does not know, as with a
// hosts.toml for all registries.
func (s *session) elsewhere(ctx context.Context) {
	const name, other = "registry it does not serve", "weir-doctor.invalid"
	r := s.ask(ctx, request{
		method: http.MethodHead, path: s.repo + "/manifests/" + s.Image.Ref.String(), accept: s.c.accepts, query: url.Values{"ns": {other}},
	})
	if r.err != nil {
		s.breaks(name, r, r.came(), "waits, and "+s.c.next, silent)
		return
	}
	answer, effect, hint := s.refused(r, tagged)
	switch status := r.answer.StatusCode; {
	case r.good():
		s.note(name, r, r.came()+": it does not look at ns",
			"takes the image of one registry for that of another, if a hosts.toml leads other registries here",
			"lead "+s.ns+" alone to this server, and never _default")
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		s.breaks(name, r, answer, effect, hint)
	case status >= 500:
		s.note(name, r, answer, effect+"; where this is the last place it asks twice, and shows the error", "answer 404, NAME_UNKNOWN, for an ns that is not served")
	default:
		s.add(OK, name, r.line, answer, "", "")
	}
}

// referrers asks what refers to the image, as containerd 2.2 does.
func (s *session) referrers(ctx context.Context, top v1.Descriptor) {
	const name = "referrers"
	r := s.ask(ctx, request{
		method: http.MethodGet, path: s.repo + "/referrers/" + top.Digest.String(), accept: []string{origin.MediaTypeOCIIndex + ", */*"},
	})
	switch {
	case r.is(http.StatusNotFound):
		r.discard()
		s.note(name, r, r.came(), "asks for the tag "+string(top.Digest.Algorithm())+"-…, which few tools keep up: signatures may be missed",
			"have the referrers API: 200 and an index, empty where there are none")
		return
	case !r.good():
		answer, effect, hint := s.refused(r, tagged)
		s.note(name, r, answer, "pulls all the same; what verifies signatures "+effect, hint)
		return
	}
	index, ok := s.index(name, r)
	if !ok {
		return
	}
	if next, ok := remote.ParseLink(r.answer.Header.Values("Link")); ok {
		at, err := s.Out.Lead(r.answer.At, next)
		if err != nil || !egress.SameOrigin(at, s.Server) {
			s.note(name, r, quoted("Link", r.header("Link")), "does not find the other pages", "let Link be a path of this server")
			return
		}
	}
	s.ok(name, r, fmt.Sprintf("%d of them", len(index.Manifests)))
}

// index reads the list of referrers.
func (s *session) index(name string, r reply) (v1.Index, bool) {
	var index v1.Index
	said := r.header("Content-Type")
	b, err := r.read(maxManifest)
	if err == nil {
		err = json.Unmarshal(b, &index)
	}
	mediaType, _, _ := strings.Cut(said, ";")
	if err != nil || strings.TrimSpace(mediaType) != origin.MediaTypeOCIIndex {
		s.breaks(name, r, r.came()+", "+quoted("Content-Type", said), "finds no index in it: signatures cannot be verified",
			"answer with an index, "+origin.MediaTypeOCIIndex)
		return index, false
	}
	return index, true
}
