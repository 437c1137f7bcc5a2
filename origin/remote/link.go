package remote

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/weir-registry/weir/origin/remote/egress"
)

// next is the address of the next page of a listing, as the Link of this one says
// (OCI Distribution 1.1, "Listing tags"). A link is followed only to the same
// listing at the endpoint, so that what is taken of it is its query; ok is false
// for any other. named says whether there was one.
func (r *Registry) next(page *url.URL, h http.Header) (u *url.URL, named, ok bool) {
	target, named := ParseLink(h.Values("Link"))
	if !named {
		return nil, false, false
	}
	ref, err := url.Parse(target)
	if err != nil {
		return nil, true, false
	}
	u = page.ResolveReference(ref)
	if u.User != nil || u.Opaque != "" || !egress.SameOrigin(u, r.root) || u.Path != page.Path || u.RawQuery == page.RawQuery {
		return nil, true, false
	}
	same := *page
	same.RawQuery = u.RawQuery
	return &same, true, true
}

// ParseLink gives the first target in Link headers whose relation is "next"
// (RFC 8288, 3). What it cannot read ends a header.
func ParseLink(headers []string) (target string, ok bool) {
	for _, rest := range headers {
		for {
			rest = strings.TrimLeft(rest, " \t,")
			after, found := strings.CutPrefix(rest, "<")
			if !found {
				break
			}
			var is bool
			if target, rest, found = strings.Cut(after, ">"); !found {
				break
			}
			if is, rest = isNext(rest); is {
				return target, true
			}
		}
	}
	return "", false
}

// isNext reads the parameters of a link up to the comma behind them, and reports
// whether the first rel among them (later ones do not count) names "next".
func isNext(s string) (is bool, rest string) {
	seen := false
	for {
		var found bool
		if s, found = strings.CutPrefix(strings.TrimLeft(s, " \t"), ";"); !found {
			return is, s
		}
		end := strings.IndexAny(s, "=;,")
		if end < 0 {
			return is, ""
		}
		name, value := strings.TrimSpace(s[:end]), ""
		if s = s[end:]; s[0] == '=' {
			value, s = parameter(strings.TrimLeft(s[1:], " \t"))
		}
		if !seen && strings.EqualFold(name, "rel") {
			seen = true
			is = slices.ContainsFunc(strings.Fields(value), func(rel string) bool { return strings.EqualFold(rel, "next") })
		}
	}
}

// parameter reads a token or a quoted string.
func parameter(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ";,")
		if end < 0 {
			end = len(s)
		}
		return strings.TrimSpace(s[:end]), s[end:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", ""
}
