package doctor

import (
	"compress/flate"
	"compress/gzip"
	"fmt"
	"io"
	"strings"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// encoding is the Content-Encoding of an answer, "" where there is none.
func encoding(a *egress.Answer) string {
	e := strings.ToLower(strings.TrimSpace(a.Header.Get("Content-Encoding")))
	if e == "identity" {
		return ""
	}
	return e
}

// decoded is the body as it was before it was encoded for the way.
func decoded(a *egress.Answer) (io.Reader, error) {
	switch e := encoding(a); e {
	case "":
		return a.Body, nil
	case "gzip":
		return gzip.NewReader(a.Body)
	case "deflate":
		return flate.NewReader(a.Body), nil
	default:
		return nil, fmt.Errorf("it is encoded: %s", origin.Quote(e))
	}
}

// decodes reports whether an encoding is one that decoded knows.
func decodes(e string) bool { return e == "" || e == "gzip" || e == "deflate" }
