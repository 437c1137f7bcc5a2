package remote

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// formatRange is the Range header of a range that is not the whole (RFC 9110,
// 14.1.2). That of the last bytes asks for all of them.
func formatRange(r store.Range) string {
	switch {
	case r.Off < 0:
		return fmt.Sprintf("bytes=%d", r.Off)
	case r.Len == 0:
		return fmt.Sprintf("bytes=%d-", r.Off)
	default:
		return fmt.Sprintf("bytes=%d-%d", r.Off, r.Off+r.Len-1)
	}
}

// partial checks that a 206 holds what formatRange asked for, no less and no
// more, and gives the blob's size (-1 = not said) and the stretch.
func partial(a *answer, r store.Range) (size, off, n int64, err error) {
	if a.mediaType() == "multipart/byteranges" {
		return 0, 0, 0, wrongAnswer("several parts, asked for %s", formatRange(r))
	}
	h := a.Header.Get("Content-Range")
	first, last, size, ok := parseContentRange(h)
	n = last - first + 1
	if !ok || a.ContentLength >= 0 && a.ContentLength != n {
		return 0, 0, 0, wrongAnswer("Content-Range is %s, Content-Length %d", origin.Quote(h), a.ContentLength)
	}
	if r.Off < 0 {
		r.Len = 0
	}
	fits := size < 0 && r.Off >= 0 && r.Len > 0 && first == r.Off && n == r.Len
	if size >= 0 {
		wantOff, wantN, err := r.Resolve(size)
		fits = err == nil && first == wantOff && n == wantN
	}
	if !fits {
		return 0, 0, 0, wrongAnswer("Content-Range is %s, asked for %s", origin.Quote(h), formatRange(r))
	}
	return size, first, n, nil
}

// unranged refuses a 200 which says that it is a part of the blob. There is no
// such thing (RFC 9110, 14.4): whoever sends it may mean either.
func unranged(a *answer) error {
	h := a.Header.Get("Content-Range")
	if h == "" {
		return nil
	}
	first, last, size, ok := parseContentRange(h)
	if !ok || first != 0 || last+1 != size || a.ContentLength >= 0 && a.ContentLength != size {
		return wrongAnswer("200 with Content-Range %s", origin.Quote(h))
	}
	return nil
}

// parseContentRange reads a Content-Range header of bytes (RFC 9110, 14.4); size
// is -1 for "*". What it takes satisfies 0 <= first <= last, and last < size.
func parseContentRange(s string) (first, last, size int64, ok bool) {
	unit, rest, _ := strings.Cut(s, " ")
	span, total, found := strings.Cut(rest, "/")
	from, to, dash := strings.Cut(span, "-")
	if !strings.EqualFold(unit, "bytes") || !found || !dash {
		return 0, 0, 0, false
	}
	if first, ok = decimal(from); !ok {
		return 0, 0, 0, false
	}
	if last, ok = decimal(to); !ok || last < first || last == math.MaxInt64 {
		return 0, 0, 0, false
	}
	if total == "*" {
		return first, last, -1, true
	}
	if size, ok = decimal(total); !ok || last >= size {
		return 0, 0, 0, false
	}
	return first, last, size, true
}

// decimal reads digits, and digits only.
func decimal(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
