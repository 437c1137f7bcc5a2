package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// maxManifest is the largest manifest that containerd takes, in bytes: 4*1048*1048,
// as its source has it. The other clients take 4 MiB.
const maxManifest = 4 * 1048 * 1048

var noSecret egress.Secret

// session is one client at the server.
type session struct {
	Options
	c      client
	checks []Check

	repo      string // as a path below /v2/
	ns        string // "" = not said
	anonymous bool   // it shows no login, whoever is logged in
	scope     string // of the tokens that it asks for

	authorization egress.Secret
	asked         bool // for a login or a token: once
	known         bool // it has shown a login
	told          bool // why it is not let in
	unsaid        bool // that there is no Docker-Content-Digest
}

func newSession(o Options, c client) *session {
	s := &session{Options: o, c: c, repo: o.Image.Repo.String()}
	if o.Image.Host != "" {
		switch {
		case c.namespaced:
			s.ns = o.Image.Host
		case c.kind == podman, o.Image.Host != dockerHub:
			s.repo = o.Image.below()
		}
		// Credentials are those of the registry, and stay there. podman has its own of a mirror.
		s.anonymous = c.kind != podman && s.mirrored()
	}
	s.scope = "repository:" + s.repo + ":pull"
	return s
}

// mirrored reports whether the client has somewhere else to go.
func (s *session) mirrored() bool {
	return s.Image.Host != "" && (s.c.kind != dockerClassic || s.Image.Host == dockerHub)
}

// goesOn is what the client does when it is refused.
func (s *session) goesOn() string {
	if s.mirrored() {
		return s.c.next
	}
	return "fails the pull: there is no other place to ask"
}

// request is one for something below /v2/.
type request struct {
	method string
	path   string
	query  url.Values
	accept []string
	header http.Header
	bulk   bool
}

// reply is what came of a request. Either answer or err is nil.
type reply struct {
	line   string // the request, as one would write it
	answer *egress.Answer
	err    error
}

func (r reply) is(status int) bool { return r.err == nil && r.answer.StatusCode == status }

// good reports whether the status is of the 200s.
func (r reply) good() bool { return r.err == nil && r.answer.StatusCode/100 == 2 }

func (r reply) header(name string) string { return r.answer.Header.Get(name) }

func (r reply) discard() {
	if r.err == nil {
		r.answer.Discard()
	}
}

// read reads the body, as its Content-Encoding has it, and closes it.
func (r reply) read(most int64) ([]byte, error) {
	defer func() { _ = r.answer.Body.Close() }() // what counts was read
	body, err := decoded(r.answer)
	if err != nil {
		return nil, err
	}
	return egress.ReadAll(body, most)
}

// came says what the answer was.
func (r reply) came() string {
	if r.err != nil {
		return reason(r.err)
	}
	s := fmt.Sprintf("%d %s", r.answer.StatusCode, http.StatusText(r.answer.StatusCode))
	if r.answer.Led {
		s += " by way of " + r.answer.At.Host
	}
	return strings.TrimSpace(s)
}

// reason is why there was no answer, without the address, which is said beside it.
func reason(err error) string {
	if bad, ok := errors.AsType[*url.Error](err); ok {
		err = bad.Err
	}
	return "no answer: " + err.Error()
}

// ask sends a request as the client would: who is refused for want of credentials has
// some, and asks once more.
func (s *session) ask(ctx context.Context, q request) reply {
	r := s.send(ctx, q)
	if !r.is(http.StatusUnauthorized) || s.c.pings || s.asked {
		return r
	}
	challenge, ok := remote.ParseChallenge(ctx, r.answer.Header)
	if !ok {
		return r
	}
	r.discard()
	s.identify(ctx, r, challenge)
	return s.send(ctx, q)
}

func (s *session) send(ctx context.Context, q request) reply {
	u := *s.Server
	u.Path = "/v2/" + q.path
	query := url.Values{}
	maps.Copy(query, q.query)
	if s.ns != "" && !query.Has("ns") {
		query.Set("ns", s.ns)
	}
	u.RawQuery = query.Encode()
	header := http.Header{}
	maps.Copy(header, q.header)
	if len(q.accept) > 0 {
		header["Accept"] = q.accept
	}
	line := q.method + " " + u.RequestURI()
	if r := header.Get("Range"); r != "" {
		line += " with Range: " + r
	}
	a, err := s.Out.Follow(ctx, egress.Request{Method: q.method, URL: &u, Header: header, Bulk: q.bulk}, s.authorization)
	return reply{line: line, answer: a, err: err}
}

// manifest asks for a manifest.
func (s *session) manifest(ctx context.Context, method, ref string, accept []string) reply {
	return s.ask(ctx, request{method: method, path: s.repo + "/manifests/" + ref, accept: accept})
}

// blob asks for a blob, or for what is left of it.
func (s *session) blob(ctx context.Context, d v1.Descriptor, ranged string) reply {
	header := http.Header{"Accept-Encoding": {s.c.encodings}}
	if ranged != "" {
		// With one, Go's HTTP client accepts no encoding by itself.
		header.Set("Range", ranged)
		if !s.c.likeContainerd() {
			header.Del("Accept-Encoding")
		}
	}
	var accept []string
	if s.c.likeContainerd() {
		accept = []string{d.MediaType + ", */*"}
	}
	return s.ask(ctx, request{method: http.MethodGet, path: s.repo + "/blobs/" + d.Digest.String(), accept: accept, header: header, bulk: true})
}

func (s *session) add(state State, name, request, answer, effect, hint string) {
	s.checks = append(s.checks, Check{name, state, request, answer, effect, hint})
}

func (s *session) ok(name string, r reply, more ...string) {
	s.add(OK, name, r.line, strings.Join(append([]string{r.came()}, more...), ", "), "", "")
}

func (s *session) note(name string, r reply, answer, effect, hint string) {
	s.add(Note, name, r.line, answer, effect, hint)
}

func (s *session) breaks(name string, r reply, answer, effect, hint string) {
	s.add(Breaks, name, r.line, answer, effect, hint)
}

// short is a digest for the eye.
func short(d digest.Digest) string {
	const most = 12
	if hex := d.Encoded(); len(hex) > most {
		return string(d.Algorithm()) + ":" + hex[:most] + "…"
	}
	return d.String()
}

// quoted is a header as it came.
func quoted(name, value string) string {
	if value == "" {
		return "no " + name
	}
	return name + ": " + origin.Quote(value)
}

// drained is what a body was.
type drained struct {
	size   int64
	digest digest.Digest
	tail   digest.Digest // of what follows an offset
	err    error         // it did not end
}

// drain reads a body to its end and closes it.
func drain(r reply, alg digest.Algorithm, from, most int64) (d drained) {
	defer func() { _ = r.answer.Body.Close() }() // all that counts was read
	body, err := decoded(r.answer)
	if err != nil {
		return drained{err: err}
	}
	whole, tail := alg.Digester(), alg.Digester()
	head, err := io.CopyN(whole.Hash(), body, from)
	d.size = head
	if err == nil {
		var rest int64
		// One byte more than there should be is enough to know.
		rest, err = io.Copy(io.MultiWriter(whole.Hash(), tail.Hash()), io.LimitReader(body, most-from+1))
		d.size += rest
	}
	if err != nil && err != io.EOF {
		d.err = err
	}
	d.digest, d.tail = whole.Digest(), tail.Digest()
	return d
}
