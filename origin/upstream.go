package origin

import (
	"fmt"
	"net/http"
	"time"
)

// UpstreamError is why an endpoint of an upstream did not give what it was asked
// for. Whoever reads through to upstreams decides by it what to do next: ask
// another endpoint, serve what it has, or say no.
//
// Exactly one of NotThere, Denied, Limited and Outage is true of it. What a
// client may be told is the [Error] that it wraps: nothing is there where the
// endpoint said so or refused, else unavailable (502, 504 or 503).
//
// A caller that went away is not an upstream's error: its context's own error is
// returned as it is.
type UpstreamError struct {
	Endpoint string // host, with the port where one is configured
	// Status is the HTTP status of a refusal. It is 0 where there was no answer, or
	// one that is not what it should be. Of a host that the endpoint led to only
	// what says something of the endpoint counts: 429 and 5xx of a CDN, 401, 403
	// and 429 of a token server; all else there is 0 too.
	Status     int
	Timeout    bool          // there was no answer, or no further byte of it, in time
	Silent     bool          // nothing came from the endpoint, or from its token server: no connection, no header
	RetryAfter time.Duration // how long the endpoint wants to be left alone; 0 = it did not say
	Err        error         // wraps an Error; holds no secret
}

// Error names the endpoint, the status and the cause: it is for logs.
func (e *UpstreamError) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("upstream %s: %v", e.Endpoint, e.Err)
	}
	return fmt.Sprintf("upstream %s: status %d: %v", e.Endpoint, e.Status, e.Err)
}

// Unwrap gives the cause.
func (e *UpstreamError) Unwrap() error { return e.Err }

// NotThere reports whether the endpoint said that what was asked for does not
// exist (404, 410).
func (e *UpstreamError) NotThere() bool {
	return e.Status == http.StatusNotFound || e.Status == http.StatusGone
}

// Denied reports whether the endpoint refused the credentials that it was asked
// with, or asked for some (401, 403). Many registries answer so for what does not
// exist.
func (e *UpstreamError) Denied() bool {
	return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
}

// Limited reports whether the endpoint wants to be asked less often (429).
func (e *UpstreamError) Limited() bool { return e.Status == http.StatusTooManyRequests }

// Outage reports whether the endpoint could not say: no answer, a 5xx or any
// other status that means nothing to a reader, an answer that broke off, or one
// that is not what it should be (another digest, an HTML page).
func (e *UpstreamError) Outage() bool {
	return !e.NotThere() && !e.Denied() && !e.Limited()
}
