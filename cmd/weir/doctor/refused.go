package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// Hints that several checks give.
const (
	silent        = "see whether something before the server closes connections, redirects in circles or leads elsewhere"
	slow          = "send the first byte within 30 s: do not fetch a whole layer before the answer begins"
	challengeHint = "send WWW-Authenticate with each 401: Bearer realm=\"https://…/token\",service=\"…\",scope=\"…\", or Basic realm=\"…\""
	realmHint     = "let the realm be an address that clients reach (server.external_url in weir; auth.token.realm in a docker-registry)"
	lengthHint    = "send Content-Length, also with HEAD; a proxy that compresses takes it out"
	cutHint       = "see what cuts connections: a proxy's timeout or buffer, or the way to where the server has its blobs"
	digestHint    = "send Docker-Content-Digest, the digest of the manifest's bytes; proxies must let it through"
	typeHint      = "send the Content-Type that the manifest was pushed with"
	bytesHint     = "pass bytes through as they are: nothing on the way may compress, convert or trim them"
	rangeHint     = "answer Range: bytes=N- with 206 and Content-Range, in the proxy before the server, too"
)

// what is asked for, and may be refused.
type what int

const (
	tagged what = iota // a manifest by what people name it by
	named              // a manifest by the digest that another answer gave
	blobs              // of a manifest
)

// refused says what the client makes of an answer that is not what it asked for, and
// how to mend it.
func (s *session) refused(r reply, x what) (answer, effect, hint string) {
	answer, effect = r.came(), s.goesOn()
	if x == blobs {
		effect = s.retries() + effect
	}
	if r.err != nil {
		hint = silent
		if late, ok := errors.AsType[net.Error](r.err); ok && late.Timeout() {
			effect, hint = "waits no longer than 30 s, and "+effect, slow
			if !s.c.likeContainerd() {
				effect = "waits for as long as it takes"
			}
		}
		return answer, effect, hint
	}
	if said := explained(r); said != "" {
		answer += ", " + said
	}
	_, challenged := remote.ParseChallenge(context.Background(), r.answer.Header)
	switch status := r.answer.StatusCode; {
	case status == http.StatusUnauthorized && s.known:
		hint = "let the login or the token be good for this repository: " + origin.Quote(s.scope)
	case status == http.StatusUnauthorized && !challenged:
		answer += ", " + quoted("WWW-Authenticate", r.header("WWW-Authenticate"))
		hint = challengeHint
	case status == http.StatusUnauthorized && s.c.pings && !s.asked:
		effect = "takes how to log in from GET /v2/ alone, which does not say, and " + effect
		hint = "answer GET /v2/ with the same 401 and challenge"
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		hint = s.loginHint()
	case status == http.StatusNotFound && x == named:
		hint = "have what a tag is said to name: the digest in the answer to HEAD, and what an index names"
	case status == http.StatusNotFound && x == blobs:
		hint = "have all blobs of a manifest that is served, or answer 404 for the manifest"
	case status == http.StatusNotFound && s.c.kind == dockerClassic && s.mirrored():
		hint = "see whether the server has " + s.Image.String() + " (--image names another one): Docker asks without the registry's name, " +
			"which the server must know by itself (mirror.default in weir)"
	case status == http.StatusNotFound:
		hint = "see whether the server has " + s.Image.String() + " (--image names another one), and serves it by this path"
		if s.ns != "" {
			hint += " and ?ns=" + s.ns
		}
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		effect = s.hurries() + s.goesOn()
		hint = "let requests wait, or answer 503, or 404: a mirror must not limit those that pull through it"
	case status >= 500:
		hint = "see the server's log; where an upstream is away, serve what is there"
	case status >= 300 && status < 400:
		hint = "redirect with a Location, or answer yourself"
	default:
		hint = "see what answers there: no registry says that"
	}
	return answer, effect, hint
}

// hurries is what the client does before it believes a 429.
func (s *session) hurries() string {
	switch s.c.kind {
	case containerd, dockerStore:
		return "asks again at once, up to five times without a pause, and "
	case podman:
		return "asks again five times, after 2 s, 4 s and so on, and "
	}
	return ""
}

// explained is the reason in an OCI error, or what is there in its place; "" for
// HEAD and for an empty body. The body is closed.
func explained(r reply) string {
	const most = 64 << 10
	b, err := r.read(most)
	if err != nil || len(b) == 0 {
		return ""
	}
	if code, ok := code(b); ok {
		return code
	}
	if page(r, b) {
		return "a web page"
	}
	return "no OCI error"
}

// code is that of the first OCI error in a body.
func code(b []byte) (string, bool) {
	var said struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(b, &said) != nil || len(said.Errors) == 0 {
		return "", false
	}
	word := strings.Map(func(c rune) rune {
		if c == '_' || 'A' <= c && c <= 'Z' {
			return c
		}
		return -1
	}, said.Errors[0].Code)
	return word, word != ""
}

// page reports whether a body is a web page.
func page(r reply, b []byte) bool {
	text := strings.ToLower(strings.TrimSpace(string(b[:min(len(b), 256)])))
	return strings.HasPrefix(r.header("Content-Type"), "text/html") || strings.HasPrefix(text, "<!doctype") || strings.HasPrefix(text, "<html")
}

// cut says how a body broke off, or could not be read.
func cut(err error) string {
	if errors.Is(err, egress.ErrStalled) {
		return "no byte for 30 s"
	}
	return err.Error()
}
