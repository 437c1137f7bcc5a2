package serve

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// Values that are the same in every answer, so that a hot one does not make them anew.
// They are shared: a handler may replace what a header has, and never writes into it.
var (
	registryV2  = []string{"registry/2.0"}
	noSniff     = []string{"nosniff"}
	byBytes     = []string{"bytes"}
	octetStream = []string{"application/octet-stream"}
	sandboxed   = []string{"default-src 'none'; frame-ancestors 'none'; sandbox"}
)

// setVersion says that this is a registry: old clients look for it on every answer.
func setVersion(h http.Header) { h["Docker-Distribution-Api-Version"] = registryV2 }

// setNoSniff has browsers believe the Content-Type.
func setNoSniff(h http.Header) { h["X-Content-Type-Options"] = noSniff }

// setContent has browsers run nothing of content: a mirrored manifest has the media type that
// its upstream says, a drawing's with scripts, too, and the pages for people have the same
// origin.
func setContent(h http.Header) {
	setNoSniff(h)
	h["Content-Security-Policy"] = sandboxed
}

// setSource says how a mirror came by an answer.
func setSource(ctx context.Context, h http.Header, src origin.Source) {
	if src.Cache == "" {
		return
	}
	origin.RequestOf(ctx).Cache = src.Cache
	h.Set("Weir-Cache", string(src.Cache))
	if src.Upstream != "" {
		h.Set("Weir-Upstream", src.Upstream)
	}
	if src.Stale != "" {
		h.Set("Warning", warning("stale: "+src.Stale))
	}
}

// warning makes a Warning header's value: 299, no agent, a quoted string, at most
// 4096 bytes in all (OCI Distribution 1.1, "Warnings").
func warning(text string) string {
	const most, head = 4096, `299 - "`
	b := []byte(head)
	for _, c := range text {
		if len(b) > most-3 { // an escaped character and the closing quote
			break
		}
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c < ' ' || c > '~':
			b = append(b, '?')
		default:
			b = append(b, byte(c))
		}
	}
	return string(append(b, '"'))
}

func etag(d digest.Digest) string { return `"` + d.String() + `"` }

// noneMatch reports whether If-None-Match allows an answer with content: whether
// the client does not have the digest yet. Clients send it quoted, weak, bare, and
// in lists.
func noneMatch(h http.Header, d digest.Digest) bool {
	for _, line := range h["If-None-Match"] {
		for tag := range strings.SplitSeq(line, ",") {
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
			if tag == "*" || strings.Trim(tag, `"`) == d.String() {
				return false
			}
		}
	}
	return true
}

// fresh reports whether the client wants an answer that was checked for it
// (Cache-Control: no-cache; RFC 9111, 5.2.1.4).
func fresh(h http.Header) bool {
	for _, line := range h["Cache-Control"] {
		for directive := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(directive), "no-cache") {
				return true
			}
		}
	}
	return false
}

// takesAny reports whether a client takes a manifest of whatever kind, and names several
// that it knows, as those do that resolve a tag to pull it. One that is about to push
// names the kind of what it has (containerd), or kinds alone.
func takesAny(h http.Header) bool {
	kinds, any := 0, false
	for _, line := range h["Accept"] {
		for kind := range strings.SplitSeq(line, ",") {
			kind, _, _ = strings.Cut(kind, ";")
			if strings.TrimSpace(kind) == "*/*" {
				any = true
			} else {
				kinds++
			}
		}
	}
	return any && kinds > 1
}

// notModified answers that the client has it already.
func notModified(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNotModified)
	return nil
}

// target makes the URL of something in the repository that a call is about, in the
// spelling of the client: prefix and ns are kept.
func (c Call) target(elems ...string) *url.URL {
	u := &url.URL{Path: "/v2/" + strings.Join(elems, "/")}
	if c.Prefix != "" {
		u.Path = "/" + c.Prefix + u.Path
	}
	if c.Namespace != "" {
		u.RawQuery = url.Values{"ns": {c.Namespace}}.Encode()
	}
	return u
}

// setLocation says where something is: absolute where the registry knows how it is
// reached, else as a path.
func (s *server) setLocation(h http.Header, u *url.URL) {
	if s.external != nil {
		abs := *s.external
		abs.Path = strings.TrimSuffix(abs.Path, "/") + u.Path
		abs.RawPath, abs.RawQuery, abs.Fragment = "", u.RawQuery, ""
		u = &abs
	}
	h.Set("Location", u.String())
}

// setNext links to the page after an item. The link is a path: clients resolve it
// against the address that they asked, which no registry behind a proxy knows
// better.
func setNext(h http.Header, u *url.URL, p origin.Page, artifactType, last string) {
	if last == "" {
		return
	}
	q := u.Query()
	q.Set("n", strconv.Itoa(p.N))
	q.Set("last", last)
	if artifactType != "" {
		q.Set("artifactType", artifactType)
	}
	u.RawQuery = q.Encode()
	h.Set("Link", "<"+u.String()+`>; rel="next"`)
}
