package guard

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin"
)

// IdentifyOptions are how those who ask are known.
type IdentifyOptions struct {
	Authenticator authz.Authenticator
	// Client says where a request comes from.
	Client func(r *http.Request) authz.Client
	// Challenge gives the WWW-Authenticate headers of a 401 for credentials that nobody
	// accepts.
	Challenge func(ctx context.Context) []string
	// Fail writes an error.
	Fail func(w http.ResponseWriter, r *http.Request, err error)
	// Attempted is told of credentials that were shown, by the method of who they are
	// of, or by what they look like (basic, bearer, other) where nobody accepts them;
	// result is accepted, rejected or error. nil: nobody is.
	Attempted func(method, result string)
	// Log is told, at debug, why credentials are not accepted, and at warn why they
	// could not be checked; nil: nobody is.
	Log *slog.Logger
}

// Identify finds out who asks, and puts it into the request for those behind. Requests
// whose credentials nobody accepts go no further.
func Identify(next http.Handler, o IdentifyOptions) http.Handler {
	if o.Attempted == nil {
		o.Attempted = func(string, string) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		request := origin.RequestOf(ctx)
		who, err := o.Authenticator.Authenticate(r)
		who.Client = o.Client(r)
		request.Principal = who
		switch {
		case err == nil:
			if who.Authenticated() {
				o.Attempted(string(who.Method), "accepted")
			}
			next.ServeHTTP(w, r)
		case errors.Is(err, authz.ErrUnavailable):
			o.Attempted(scheme(r), "error")
			o.Log.WarnContext(ctx, "credentials could not be checked", "error", err.Error(), "trace_id", request.ID)
			w.Header().Set("Retry-After", "1")
			o.Fail(w, r, origin.Wrap(origin.Errorf(origin.ErrUnavailable, "who you are cannot be checked now"), err))
		default:
			o.Attempted(scheme(r), "rejected")
			o.Log.DebugContext(ctx, "credentials not accepted", "error", err.Error(), "trace_id", request.ID)
			request.Challenge = o.Challenge(ctx)
			o.Fail(w, r, origin.Wrap(origin.Errorf(origin.ErrUnauthorized, "the credentials are not accepted"), err))
		}
	})
}

// scheme is what the credentials of a request look like.
func scheme(r *http.Request) string {
	word, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(word, "basic"):
		return "basic"
	case strings.EqualFold(word, "bearer"):
		return "bearer"
	default:
		return "other"
	}
}
