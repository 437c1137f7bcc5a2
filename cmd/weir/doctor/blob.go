package doctor

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// blob is one that came whole.
type blob struct {
	v1.Descriptor
	size int64         // 0: it did not come whole
	from int64         // where a client that lost it would go on
	tail digest.Digest // of what follows from
}

// whole gets a blob from its first byte to its last.
func (s *session) whole(ctx context.Context, name string, d v1.Descriptor) blob {
	r := s.blob(ctx, d, "")
	if !r.good() {
		s.denied(name, r, blobs)
		return blob{}
	}
	if e := encoding(r.answer); !decodes(e) {
		r.discard()
		s.encoded(name, r, e)
		return blob{}
	}
	from := d.Size / 2
	got := drain(r, d.Digest.Algorithm(), from, d.Size)
	switch {
	case got.err != nil:
		s.breaks(name, r, fmt.Sprintf("%s, %d of %d bytes, and then: %s", r.came(), min(got.size, d.Size), d.Size, cut(got.err)), s.resumes(), cutHint)
		return blob{}
	case got.digest != d.Digest:
		answer := fmt.Sprintf("%s, %d of %d bytes, of another digest", r.came(), got.size, d.Size)
		if got.size > d.Size {
			answer = fmt.Sprintf("%s, more than the %d bytes", r.came(), d.Size)
		}
		effect := "throws it away and fails the pull: no other host is asked"
		if s.c.kind == dockerClassic {
			effect = "throws it away, fetches it again up to five times, and " + s.goesOn()
		}
		s.breaks(name, r, answer, effect, bytesHint)
		return blob{}
	}
	s.ok(name, r, fmt.Sprintf("%d bytes", got.size))
	switch e := encoding(r.answer); {
	case e != "":
		s.note(name, r, quoted("Content-Encoding", e), "decodes it; a download that breaks off cannot be gone on with", bytesHint)
	case r.answer.ContentLength < 0 && !r.answer.ProtoAtLeast(1, 1):
		s.note(name, r, "no Content-Length", "cannot tell one that was cut from one that is whole before all is there", lengthHint)
	case r.answer.ContentLength < 0:
		s.note(name, r, "no Content-Length", "shows no progress, and has nothing to plan parallel downloads by", lengthHint)
	}
	return blob{Descriptor: d, size: got.size, from: from, tail: got.tail}
}

// retries is what a client does first when it is refused a blob.
func (s *session) retries() string {
	switch {
	case s.c.kind == dockerClassic:
		return "tries up to five times, and "
	case s.c.kind == podman && s.mirrored():
		return "fails the pull, or, since May 2026, "
	}
	return ""
}

// resumes is what a client does when a blob breaks off.
func (s *session) resumes() string {
	switch s.c.kind {
	case dockerClassic:
		return "asks for the rest, five times at most, and " + s.goesOn()
	case podman:
		return "asks for the rest if a MiB has come since it last did, and else fails the pull"
	}
	return "asks for the rest, here again, and fails the pull after three times without a byte"
}

// loses is what a client does that cannot go on with a blob.
func (s *session) loses() string {
	if s.c.kind == podman {
		return "fails the pull"
	}
	return s.goesOn()
}

// encoded says what becomes of a blob in an encoding that is not decoded here.
func (s *session) encoded(name string, r reply, e string) {
	if e == "zstd" && s.c.likeContainerd() {
		s.note(name, r, r.came()+", "+quoted("Content-Encoding", e), "decodes it, which weir doctor does not; a download that breaks off cannot be gone on with", bytesHint)
		return
	}
	s.breaks(name, r, r.came()+", "+quoted("Content-Encoding", e), "does not decode it, and "+s.loses(), bytesHint)
}

// resume asks for the rest of a blob, as after a connection that was cut.
func (s *session) resume(ctx context.Context, b blob) {
	const name = "rest of a layer"
	r := s.blob(ctx, b.Descriptor, fmt.Sprintf("bytes=%d-", b.from))
	switch {
	case !r.good():
		answer, _, _ := s.refused(r, blobs)
		s.breaks(name, r, answer, "cannot go on here with a download that was cut, and "+s.loses(), rangeHint)
		return
	case !r.is(http.StatusPartialContent):
		r.discard()
		s.ignored(name, r)
		return
	}
	said := r.header("Content-Range")
	want := fmt.Sprintf("bytes %d-%d/", b.from, b.size-1)
	rest := drain(r, b.Digest.Algorithm(), 0, b.size-b.from)
	switch {
	case !strings.HasPrefix(said, fmt.Sprintf("bytes %d-", b.from)):
		s.breaks(name, r, r.came()+", "+quoted("Content-Range", said), "throws away what it did not ask for, and "+s.loses(), rangeHint)
	case rest.err != nil:
		s.breaks(name, r, r.came()+", and then: "+cut(rest.err), s.resumes(), cutHint)
	case !strings.HasPrefix(said, want) && s.c.kind == podman:
		s.breaks(name, r, r.came()+", "+quoted("Content-Range", said), "wants all that is left, and fails the pull", rangeHint)
	case !strings.HasPrefix(said, want):
		s.note(name, r, r.came()+", "+quoted("Content-Range", said), "wants all that is left, and asks again for what is missing", rangeHint)
	case rest.digest != b.tail:
		s.breaks(name, r, r.came()+", but the bytes are others than those of the whole", "has a layer of another digest, throws it away and fails the pull", bytesHint)
	default:
		s.ok(name, r, fmt.Sprintf("%d bytes", rest.size))
	}
	if s.c.kind == containerd {
		s.parts(ctx, b)
	}
}

// ignored says what becomes of a range that is answered by the whole.
func (s *session) ignored(name string, r reply) {
	answer := r.came() + ", " + quoted("Content-Range", r.header("Content-Range"))
	switch s.c.kind {
	case podman:
		s.breaks(name, r, answer, "takes no whole for a rest: a download that was cut fails the pull", rangeHint)
	case dockerClassic:
		s.note(name, r, answer, "begins again with the first byte", rangeHint)
	default:
		s.note(name, r, answer, "has all sent again, and throws away what it has", rangeHint)
	}
}

// parts asks as containerd does where it fetches a layer in parallel.
func (s *session) parts(ctx context.Context, b blob) {
	const name = "layer in parts"
	r := s.blob(ctx, b.Descriptor, "bytes=0-")
	r.discard()
	switch {
	case r.is(http.StatusPartialContent) && strings.HasPrefix(r.header("Content-Range"), "bytes 0-"):
		s.ok(name, r)
	case r.is(http.StatusOK):
		s.note(name, r, r.came(), "fetches it in one stream, whatever concurrent_layer_fetch_buffer says", rangeHint)
	case r.good():
		s.breaks(name, r, r.came()+", "+quoted("Content-Range", r.header("Content-Range")),
			"has other bytes than it thinks, where concurrent_layer_fetch_buffer is set, and fails the pull", rangeHint)
	default:
		answer, effect, _ := s.refused(r, blobs)
		s.breaks(name, r, answer, "where concurrent_layer_fetch_buffer is set, "+effect, rangeHint)
	}
}
