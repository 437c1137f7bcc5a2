package authz

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

var (
	// ErrNone says that a request has no credentials of the kind that an Authenticator
	// reads, or none that it accepts: another one may.
	ErrNone = errors.New("authz: no credentials that count here")
	// ErrRejected says that credentials were shown, and that nobody accepts them.
	ErrRejected = errors.New("authz: credentials are not accepted")
	// ErrUnavailable says that it cannot be said now who somebody is: the provider
	// that vouches for them is away, or too many ask at once.
	ErrUnavailable = errors.New("authz: cannot be checked now")
	// ErrBusy is an ErrUnavailable of which there may be thousands a second: too many ask
	// at once.
	ErrBusy = fmt.Errorf("%w: too many ask at once", ErrUnavailable)
)

// Authenticator finds who asks.
type Authenticator interface {
	// Authenticate reads the credentials of a request. It leaves Identity.Client to
	// others. Errors: ErrNone: ask the next one; ErrUnavailable.
	Authenticate(r *http.Request) (Identity, error)
}

// Authorizer decides who may do what.
type Authorizer interface {
	// Authorize says with nil that who may do what, and with a *Denial that they may
	// not. Any other error is a failure to decide, which denies as well.
	Authorize(ctx context.Context, who Identity, what Access) error
}

// Uniform is implemented by an Authorizer that can say where its answers do not
// depend on tags and digests, so that a long list needs one answer.
type Uniform interface {
	// Uniform reports whether all content of a repository is decided on alike for
	// whoever asks and whatever is done; of "" whether all repositories are.
	Uniform(repository string) bool
}

// Remote is implemented by an Authorizer that may ask somebody over the network.
type Remote interface {
	// Remote reports whether it does, so that many questions are better asked at a time.
	Remote() bool
}

// Denial is a No.
type Denial struct {
	// By is the rule, default or webhook that decided, as operators know it:
	// "authz.policy.deny[0]", "repositories[team/**].policy.default", "webhook opa".
	// It is for the log and for weir policy test, not for clients.
	By string
	// Cause is why nothing could be decided, where that is the reason; else nil.
	Cause error
}

// Error names who decided.
func (d *Denial) Error() string {
	if d.Cause != nil {
		return "denied by " + d.By + ": " + d.Cause.Error()
	}
	return "denied by " + d.By
}

// Unwrap gives the cause.
func (d *Denial) Unwrap() error { return d.Cause }
