package serve

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// ParseRange reads the Range header of a request (RFC 9110, 14.1). ok is false
// for what is to be ignored: another unit than bytes, several ranges, and what is
// no range. A range that no blob has a byte of (bytes=5-3, bytes=-0) is one whose
// Len is negative. "bytes=0-" is the whole blob.
func ParseRange(s string) (r store.Range, ok bool) {
	unit, spec, found := strings.Cut(s, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return store.Range{}, false
	}
	first, last, found := strings.Cut(strings.TrimSpace(spec), "-")
	if !found {
		return store.Range{}, false
	}
	first, last = strings.TrimSpace(first), strings.TrimSpace(last)
	switch {
	case first == "":
		n, ok := parseOffset(last)
		if ok && n == 0 {
			return store.Range{Len: -1}, true
		}
		return store.Range{Off: -n}, ok
	case last == "":
		n, ok := parseOffset(first)
		return store.Range{Off: n}, ok
	}
	from, ok := parseOffset(first)
	if !ok {
		return store.Range{}, false
	}
	to, ok := parseOffset(last)
	switch {
	case !ok:
		return store.Range{}, false
	case to < from:
		return store.Range{Len: -1}, true
	default:
		return store.Range{Off: from, Len: to - from + 1}, true
	}
}

// ParseContentRange reads the Content-Range header of a chunk that is pushed: the
// specification's form without a unit ("0-99"), and HTTP's ("bytes 0-99/200",
// "bytes 0-99/*"). It gives the first byte and the number of bytes.
func ParseContentRange(s string) (off, n int64, ok bool) {
	s = strings.TrimSpace(s)
	if unit, rest, found := strings.Cut(s, " "); found {
		if !strings.EqualFold(unit, "bytes") {
			return 0, 0, false
		}
		s = strings.TrimSpace(rest)
	}
	s, total, sized := strings.Cut(s, "/")
	first, last, found := strings.Cut(s, "-")
	if !found {
		return 0, 0, false
	}
	off, ok1 := parseOffset(first)
	end, ok2 := parseOffset(last)
	if !ok1 || !ok2 || end < off {
		return 0, 0, false
	}
	if sized && total != "*" {
		if size, ok := parseOffset(total); !ok || size <= end {
			return 0, 0, false
		}
	}
	return off, end - off + 1, true
}

// parseOffset reads a number of bytes: digits alone, and few enough that the end
// of a range does not overflow.
func parseOffset(s string) (int64, bool) {
	const digits = 18
	if s == "" || len(s) > digits || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// askedRange gives the range that a GET asks for, and whether it asks for one: an
// If-Range must name this very content, or the range does not count.
func askedRange(h http.Header, d digest.Digest) (store.Range, bool) {
	lines := h["Range"]
	if len(lines) != 1 {
		return store.Range{}, false
	}
	if cond := h.Get("If-Range"); cond != "" && cond != etag(d) {
		return store.Range{}, false
	}
	return ParseRange(lines[0])
}

func contentRange(off, n, size int64) string {
	total := "*"
	if size >= 0 {
		total = strconv.FormatInt(size, 10)
	}
	return "bytes " + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(off+n-1, 10) + "/" + total
}
