package egress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// maxHops is how many redirects of one request are followed; as browsers and
// curl's users are used to.
const maxHops = 10

// Request is a request, but for what it takes to be let in.
type Request struct {
	Method string // "" = GET
	URL    *url.URL
	Header http.Header // besides User-Agent and Authorization, which are not for it to say
	// Bulk says that much is to be sent or to come: it has connections of its own.
	Bulk bool
	// Body is sent and closed, whatever comes of the request, perhaps only after its
	// answer is there; nil = GetBody's, if there is that. GetBody gives it once more
	// from its beginning, nil = cannot. Length is its length, 0 or -1 = not known.
	Body    io.ReadCloser
	GetBody func() (io.ReadCloser, error)
	Length  int64
}

// Form is a POST of a form. It is not for Follow if it holds a credential.
func Form(to *url.URL, form url.Values) Request {
	body := form.Encode()
	return Request{
		Method: http.MethodPost, URL: to,
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}},
		GetBody: func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(body)), nil
		},
		Length: int64(len(body)),
	}
}

// Answer is the answer at the end of a request and its redirects. Its body must be
// closed. Each Read of it gives a byte within the stall time, or fails with
// [ErrStalled].
type Answer struct {
	*http.Response
	At  *url.URL // the address that gave it
	Led bool     // which is another than the one asked
}

// Discard lets go of an answer of which nothing more is needed. A short body is
// read, so that the connection can be used again.
func (a *Answer) Discard() {
	const short = 4 << 10
	if a.ContentLength <= short {
		_, _ = io.CopyN(io.Discard, a.Body, short) // it does not matter how this ends
	}
	_ = a.Body.Close()
}

// ErrReplay says that a redirect would have needed a body that is gone.
var ErrReplay = errors.New("redirected, and the body cannot be sent again")

// Silence is why nothing came from the host that was asked, and not from one that it
// led to.
type Silence struct{ Err error }

// Error is that of the cause.
func (s *Silence) Error() string { return s.Err.Error() }

// Unwrap gives the cause.
func (s *Silence) Unwrap() error { return s.Err }

// Follow sends a request, follows where it is redirected, and gives the answer at
// the end. Authorization goes with the first request only, the rest with all.
// Errors: as of Send, in a *Silence if the first host did not answer; and for a
// redirect that is not to be followed.
func (c *Client) Follow(ctx context.Context, q Request, authorization Secret) (*Answer, error) {
	for hop := 0; ; hop++ {
		a, err := c.Send(ctx, q, authorization)
		if err != nil {
			if hop > 0 {
				return nil, fmt.Errorf("redirected to %s: %w", q.URL.Host, err)
			}
			return nil, &Silence{err}
		}
		if !isRedirect(a.StatusCode) {
			a.Led = hop > 0
			return a, nil
		}
		location, status := a.Header.Get("Location"), a.StatusCode
		a.Discard()
		if hop == maxHops {
			return nil, fmt.Errorf("more than %d redirects", maxHops)
		}
		if q.URL, err = c.Lead(q.URL, location); err != nil {
			return nil, fmt.Errorf("redirect: %w", err)
		}
		if err := q.again(status); err != nil {
			return nil, err
		}
		authorization = Secret{}
	}
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// again makes the request ready to be sent once more because of a redirect of that
// status. With all but 307 and 308 a client may make a GET of anything else (RFC
// 9110, 15.4), which is not what was asked for.
func (q *Request) again(status int) error {
	sent := q.Body != nil
	q.Body = nil
	reads := q.Method == "" || q.Method == http.MethodGet || q.Method == http.MethodHead
	same := status == http.StatusTemporaryRedirect || status == http.StatusPermanentRedirect
	switch {
	case reads && !sent && q.GetBody == nil:
		return nil
	case !same:
		return fmt.Errorf("%s is redirected with status %d, which does not keep it a %s", q.Method, status, q.Method)
	case sent && q.GetBody == nil:
		return ErrReplay
	}
	return nil
}

// open gives the request's body, nil if it has none.
func (q *Request) open() (io.ReadCloser, error) {
	if q.Body != nil || q.GetBody == nil {
		return q.Body, nil
	}
	return q.GetBody()
}

// Send sends one request and gives its answer, also if that is a redirect.
// Authorization may go to where [Client.Own] or [Client.Trusts] says so; no mistake
// elsewhere sends it to another host. Errors: ctx's; [ErrAddress]; [ErrStalled] for
// a body that could not be sent on; the network's.
func (c *Client) Send(ctx context.Context, q Request, authorization Secret) (*Answer, error) {
	opened, err := q.open()
	if err != nil {
		return nil, fmt.Errorf("body of the request: %w", err)
	}
	a, err := c.send(ctx, q, opened, authorization)
	if err != nil && opened != nil {
		_ = opened.Close() // again, if it was sent: that does no harm
	}
	return a, err
}

func (c *Client) send(parent context.Context, q Request, opened io.ReadCloser, authorization Secret) (*Answer, error) {
	if err := c.fit(q.URL); err != nil {
		return nil, err
	}
	header := http.Header{}
	maps.Copy(header, q.Header)
	header.Set("User-Agent", c.userAgent)
	header.Del("Authorization")
	if authorization != (Secret{}) {
		if !c.Own(q.URL) && !c.Trusts(q.URL) {
			return nil, fmt.Errorf("no credentials for %s", q.URL.Host) // whoever asked should have known
		}
		header.Set("Authorization", authorization.Reveal())
	}
	ctx, cancel := context.WithCancelCause(parent)
	req := (&http.Request{Method: cmp.Or(q.Method, http.MethodGet), URL: q.URL, Host: q.URL.Host, Header: header}).WithContext(ctx)
	watch := newSent(opened, c.stall, func() { cancel(ErrStalled) })
	if opened != nil {
		req.Body, req.GetBody, req.ContentLength = watch, q.GetBody, q.Length
	}
	via, err := c.via(req)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp, err := via.pick(q.Bulk).RoundTrip(req)
	watch.answered()
	if err != nil {
		cause := context.Cause(ctx)
		cancel(nil)
		switch {
		case parent.Err() != nil:
			return nil, parent.Err()
		case cause == ErrStalled:
			err = ErrStalled
		}
		c.onRequest(0)
		return nil, err
	}
	c.onRequest(resp.StatusCode)
	resp.Body = newBody(parent, ctx, cancel, resp.Body, c.stall, c.onBytes)
	return &Answer{Response: resp, At: q.URL}, nil
}
