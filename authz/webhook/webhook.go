package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/weir-registry/weir/authz"
)

const (
	// mostKept is how many answers are kept.
	mostKept = 16_384
	// largestAnswer bounds a body, of which nothing is read but how long it is.
	largestAnswer = 64 << 10
)

// Options say who is asked, and how.
type Options struct {
	// Name is what operators call it.
	Name string
	URL  *url.URL
	// Timeout is for the whole of an answer.
	Timeout time.Duration
	// TTL is how long an answer is kept; 0: it is not.
	TTL time.Duration
	// Authorization gives the header of that name for a request, "" = none; nil:
	// there is none.
	Authorization func() (string, error)
	// Transport sends. It must not follow redirects.
	Transport http.RoundTripper
	// Asked is told of every request that was made, from many goroutines; nil: nobody is.
	Asked func(Result, time.Duration)
}

// Result is what came of a request.
type Result string

// The results, as metrics name them.
const (
	Allowed Result = "allow"
	Denied  Result = "deny"
	Failed  Result = "error" // which denies too
)

// Webhook is an authz.Authorizer that asks somebody. It may be used by many at a time.
type Webhook struct {
	o       Options
	answers *lru.Cache[key, answer]
	running singleflight.Group
}

var (
	_ authz.Authorizer = (*Webhook)(nil)
	_ authz.Remote     = (*Webhook)(nil)
)

// key is a question, less its time.
type key [sha256.Size]byte

// answer is a yes or a no, and until when it holds.
type answer struct {
	allowed bool
	until   time.Time
}

// New makes a Webhook. It asks nobody yet.
func New(o Options) (*Webhook, error) {
	if o.Asked == nil {
		o.Asked = func(Result, time.Duration) {}
	}
	if o.Authorization == nil {
		o.Authorization = func() (string, error) { return "", nil }
	}
	answers, err := lru.New[key, answer](mostKept)
	if err != nil {
		return nil, err
	}
	return &Webhook{o: o, answers: answers}, nil
}

// Remote implements authz.Remote.
func (*Webhook) Remote() bool { return true }

// Authorize implements authz.Authorizer. Its error is a *authz.Denial, with a Cause
// where there was no answer.
func (w *Webhook) Authorize(ctx context.Context, who authz.Identity, what authz.Access) error {
	identity, request := who.Plain(), what.Plain()
	delete(request, "time")
	question, err := json.Marshal(map[string]any{"identity": identity, "request": request})
	if err != nil {
		return w.denial(fmt.Errorf("the question is no JSON: %w", err))
	}
	k := key(sha256.Sum256(question))
	if a, ok := w.answers.Get(k); ok && time.Now().Before(a.until) {
		return w.verdict(a.allowed)
	}
	request["time"] = what.Time
	// Who asked first may leave: the others wait for the same answer.
	detached := context.WithoutCancel(ctx)
	running := w.running.DoChan(string(k[:]), func() (any, error) {
		return w.ask(detached, k, map[string]any{"identity": identity, "request": request})
	})
	select {
	case <-ctx.Done():
		return w.denial(context.Cause(ctx))
	case done := <-running:
		if done.Err != nil {
			return w.denial(done.Err)
		}
		return w.verdict(done.Val == true)
	}
}

func (w *Webhook) verdict(allowed bool) error {
	if allowed {
		return nil
	}
	return w.denial(nil)
}

func (w *Webhook) denial(cause error) error {
	return &authz.Denial{By: "webhook " + w.o.Name, Cause: cause}
}

// ask makes a request, and keeps its answer.
func (w *Webhook) ask(ctx context.Context, k key, question map[string]any) (allowed bool, err error) {
	if a, ok := w.answers.Get(k); ok && time.Now().Before(a.until) {
		return a.allowed, nil // it came between the look and the flight
	}
	begun := time.Now()
	allowed, err = w.send(ctx, question)
	result := Denied
	switch {
	case err != nil:
		result = Failed
	case allowed:
		result = Allowed
	}
	w.o.Asked(result, time.Since(begun))
	if err == nil && w.o.TTL > 0 {
		w.answers.Add(k, answer{allowed, time.Now().Add(w.o.TTL)})
	}
	return allowed, err
}

// errSlow says that there was no answer in time.
var errSlow = errors.New("no answer in time")

// send asks. Errors: whatever is no answer.
func (w *Webhook) send(ctx context.Context, question map[string]any) (allowed bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, w.o.Timeout, fmt.Errorf("%w: %s", errSlow, w.o.Timeout))
	defer cancel()
	body, err := json.Marshal(question)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.o.URL.String(), bytes.NewReader(body))
	if err != nil {
		return false, errors.New("the address is none")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	authorization, err := w.o.Authorization()
	if err != nil {
		return false, err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := w.o.Transport.RoundTrip(req)
	if err != nil {
		return false, reason(ctx, err)
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(res.Body, largestAnswer+1))
	switch {
	case err != nil:
		return false, fmt.Errorf("its answer broke off: %w", reason(ctx, err))
	case n > largestAnswer:
		return false, fmt.Errorf("its answer is longer than %d bytes", largestAnswer)
	case 200 <= res.StatusCode && res.StatusCode < 300:
		return true, nil
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		return false, nil
	default:
		return false, fmt.Errorf("it answers %d, which is neither yes nor no", res.StatusCode)
	}
}

// reason is why a request failed.
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
