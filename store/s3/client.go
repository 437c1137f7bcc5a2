package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/weir-registry/weir/store"
)

const (
	// retries is how often a request is repeated after its first attempt.
	retries = 4
	// firstDelay bounds the pause before the first retry; each further one may be twice
	// as long, up to lastDelay. How much of it is waited is random.
	firstDelay = 50 * time.Millisecond
	lastDelay  = 2 * time.Second
	// stall is how long an attempt may take to be answered, and a body may pause.
	stall = 30 * time.Second
	// assembly is how long a bucket may take to make an object of its parts.
	assembly = 5 * time.Minute
	// slowest is the rate, in bytes a second, that a request's own body has to keep.
	slowest = 64 << 10
	// rotation is how long a secret is believed that may have another value since.
	rotation = time.Minute
	// connections that are kept for the next request.
	connections = 128
)

// delay is how long to wait before retry n, which counts from 0.
func delay(n int) time.Duration {
	most := min(firstDelay<<min(n, 10), lastDelay)
	return rand.N(most) + time.Millisecond
}

// pause waits before retry n.
func pause(ctx context.Context, n int) error {
	timer := time.NewTimer(delay(n))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// newClient makes the client that o describes, and gives what ends its idle connections.
// It sends nothing yet, unless the default chain of credentials asks somebody.
func newClient(ctx context.Context, o Options) (client *s3.Client, idle func(), err error) {
	load := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer { return newRetryer() }),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns, t.MaxIdleConnsPerHost = connections, connections
			t.DisableCompression = true // a body is what the bucket has, byte for byte
			t.ForceAttemptHTTP2 = false // one connection is one limit
		})),
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	if o.AccessKeyID != "" {
		load = append(load, config.WithCredentialsProvider(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			secret, err := o.SecretAccessKey()
			return aws.Credentials{
				AccessKeyID: o.AccessKeyID, SecretAccessKey: secret, CanExpire: true, Expires: time.Now().Add(rotation),
			}, err
		})))
	}
	c, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, nil, err
	}
	if c.Region == "" {
		c.Region = defaultRegion
	}
	idle = func() {}
	if b, ok := c.HTTPClient.(*awshttp.BuildableClient); ok {
		// It makes its client at the first request, of the transport that it has by then.
		transport := b.GetTransport()
		sends := http.RoundTripper(transport)
		if o.Around != nil {
			sends = o.Around(transport)
		}
		c.HTTPClient = &http.Client{Transport: sends, CheckRedirect: noRedirect}
		idle = transport.CloseIdleConnections
	}
	return s3.NewFromConfig(c, func(s *s3.Options) {
		s.HTTPClient = timed{c.HTTPClient, stall}
		s.UsePathStyle = o.PathStyle
		if o.Endpoint != "" {
			s.BaseEndpoint = aws.String(o.Endpoint)
		}
		// A request is signed with its body's SHA-256, which every store checks; not every
		// one knows the trailing checksums that would be sent besides.
		s.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		s.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	}), idle, nil
}

// noRedirect gives a redirect as the answer: a signed request goes where it was meant.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// transient are codes of errors that another attempt may not have.
var transient = map[string]struct{}{
	"InternalError": {}, "ServiceUnavailable": {}, "OperationAborted": {}, "ConditionalRequestConflict": {},
}

func newRetryer() *retry.Standard {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = 1 + retries
		o.Backoff = retry.BackoffDelayerFunc(func(n int, _ error) (time.Duration, error) { return delay(n), nil })
		// Their number is bounded for each request: a budget for all of them together
		// would fail those that come in a bad moment.
		o.RateLimiter = ratelimit.None
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: transient})
	})
}

// once is a request without retries, for those who must know what one attempt came to.
func once(o *s3.Options) { o.Retryer = aws.NopRetryer{} }

// retryable reports whether another attempt may go better.
func retryable(err error) bool { return newRetryer().IsErrorRetryable(err) }

// code is what the bucket calls an error; "" if it did not say.
func code(err error) string {
	if said, ok := errors.AsType[interface {
		error
		ErrorCode() string
	}](err); ok {
		return said.ErrorCode()
	}
	return ""
}

// missing gives ErrNotFound for an error which says that there is no such key, and the
// error itself in all other cases: that a bucket is away, or is another one, says nothing.
func missing(err error) error {
	if code(err) == "NoSuchKey" {
		return store.ErrNotFound
	}
	return err
}

// errStalled says that a bucket did not answer, or stopped in the middle.
type errStalled struct{ limit time.Duration }

func (e errStalled) Error() string { return fmt.Sprintf("store/s3: no answer within %s", e.limit) }

// Timeout tells the SDK that another attempt may go better.
func (e errStalled) Timeout() bool { return true }

// timed bounds each attempt of a request: the time until it is answered, and the pauses
// of the answer's body.
type timed struct {
	next  aws.HTTPClient
	stall time.Duration
}

// Do implements aws.HTTPClient.
func (t timed) Do(r *http.Request) (*http.Response, error) {
	limit := t.stall + time.Duration(max(0, r.ContentLength)/slowest)*time.Second
	if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") {
		limit = assembly
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(limit, func() { cancel(errStalled{limit}) })
	resp, err := t.next.Do(r.WithContext(ctx))
	timer.Stop()
	if err != nil {
		defer cancel(nil)
		if stalled, ok := errors.AsType[errStalled](context.Cause(ctx)); ok {
			return nil, stalled
		}
		return nil, err
	}
	resp.Body = &timedBody{body: resp.Body, ctx: ctx, cancel: cancel, stall: t.stall}
	return resp, nil
}

// timedBody is a body that ends with an error when it pauses for too long.
type timedBody struct {
	body   io.ReadCloser
	ctx    context.Context // the attempt's: it is over when the body is
	cancel context.CancelCauseFunc
	stall  time.Duration
}

func (b *timedBody) Read(p []byte) (int, error) {
	timer := time.AfterFunc(b.stall, func() { b.cancel(errStalled{b.stall}) })
	n, err := b.body.Read(p)
	timer.Stop()
	if err != nil && err != io.EOF {
		if stalled, ok := errors.AsType[errStalled](context.Cause(b.ctx)); ok {
			err = stalled
		}
	}
	return n, err
}

func (b *timedBody) Close() error {
	defer b.cancel(nil)
	return b.body.Close()
}
