package remote

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// answer is the answer at the end of a request and its redirects.
type answer struct {
	*egress.Answer
	oci  transport.Diagnostic // what it says of an error (OCI Distribution 1.1, "Error codes")
	wait time.Duration        // its Retry-After
}

// follow sends a request, follows where it is redirected, and reads the answer at
// the end if that is an error.
func follow(ctx context.Context, out *egress.Client, q egress.Request, authorization egress.Secret) (*answer, error) {
	a, err := out.Follow(ctx, q, authorization)
	if err != nil {
		return nil, err
	}
	return newAnswer(a, authorization), nil
}

// accepting is a request's header that says what is wanted.
func accepting(mediaTypes string) http.Header { return http.Header{"Accept": {mediaTypes}} }

// newAnswer reads what an error says, and closes its body. An upstream which
// sends our credential back in a message does not get it into a log.
func newAnswer(got *egress.Answer, sent egress.Secret) *answer {
	a, resp := &answer{Answer: got}, got.Response
	if resp.StatusCode < http.StatusBadRequest {
		return a
	}
	defer resp.Body.Close()
	a.wait = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	e, ok := errors.AsType[*transport.Error](transport.CheckError(resp))
	if !ok || len(e.Errors) == 0 {
		return a
	}
	a.oci = e.Errors[0]
	if _, credential, ok := strings.Cut(sent.Reveal(), " "); ok && strings.Contains(a.oci.Message, credential) {
		a.oci.Message = "(secret)"
	}
	return a
}

// refusal is a status that is no success, as an error.
func (a *answer) refusal() error {
	status := a.StatusCode
	var text strings.Builder
	fmt.Fprintf(&text, "status %d", status)
	if a.Led {
		fmt.Fprintf(&text, " from %s", a.At.Host)
		// That a CDN refuses says nothing about what the endpoint has.
		if status < http.StatusInternalServerError && status != http.StatusTooManyRequests {
			status = 0
		}
	}
	if a.oci.Code != "" {
		fmt.Fprintf(&text, ": %s: %s", origin.Quote(string(a.oci.Code)), origin.Quote(a.oci.Message))
	}
	return &refusal{status: status, code: origin.Code(a.oci.Code), message: a.oci.Message, wait: a.wait, text: text.String()}
}

// saysExpired reports whether the error's text is that a token has lapsed; there
// is no code for it (ECR: "Your authorization token has expired").
func (a *answer) saysExpired() bool {
	return strings.Contains(strings.ToLower(a.oci.Message), "expired")
}

// intact refuses what is no registry's answer whatever it says: a page of a
// captive portal, encoded content.
func (a *answer) intact() error {
	if encoding := a.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return wrongAnswer("content is encoded as %s", origin.Quote(encoding))
	}
	if a.mediaType() == "text/html" {
		return wrongAnswer("an HTML page")
	}
	return nil
}

// mediaType is the Content-Type without parameters, in lower case.
func (a *answer) mediaType() string {
	t, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return ""
	}
	return t
}

// digest is the Docker-Content-Digest, "" if there is none. One that is not a
// digest, or that is not the one wanted (if that is of the same algorithm), is an
// error.
func (a *answer) digest(want digest.Digest) (digest.Digest, error) {
	s := a.Header.Get("Docker-Content-Digest")
	if s == "" {
		return "", nil
	}
	d, err := origin.ParseDigest(s)
	if err != nil {
		return "", wrongAnswer("Docker-Content-Digest is %s", origin.Quote(s))
	}
	if want != "" && d != want && d.Algorithm() == want.Algorithm() {
		return "", wrongAnswer("it is %s, not %s", d, want)
	}
	return d, nil
}

// parseRetryAfter reads a Retry-After header: seconds, or a date (RFC 9110,
// 10.2.3). What it does not understand is 0; nothing is longer than a day.
func parseRetryAfter(s string, now time.Time) time.Duration {
	const most = 24 * time.Hour
	if seconds, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64); err == nil {
		return time.Duration(min(max(0, seconds), int64(most/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return min(max(0, at.Sub(now)), most)
	}
	return 0
}
