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

// setVersion says that this is a registry: old clients look for it on every answer.
func setVersion(h http.Header) { h.Set("Docker-Distribution-API-Version", "registry/2.0") }

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
