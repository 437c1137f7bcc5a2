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
	// Attempted is told of credentials that were shown, as Attempt says; nil: nobody is.
	Attempted func(method, result string)
	// Log is told why credentials are not accepted, or could not be checked, at their
	// Level; nil: nobody is.
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
		if method, result := Attempt(r, who, err); result != "" {
			o.Attempted(method, result)
		}
		switch {
		case err == nil:
			next.ServeHTTP(w, r)
		case errors.Is(err, authz.ErrUnavailable):
			o.Log.Log(ctx, Level(err), "credentials could not be checked", "error", err.Error(), "trace_id", request.ID)
			w.Header().Set("Retry-After", "1")
			o.Fail(w, r, origin.Wrap(origin.Errorf(origin.ErrUnavailable, "who you are cannot be checked now"), err))
		default:
			o.Log.Log(ctx, Level(err), "credentials not accepted", "error", err.Error(), "trace_id", request.ID)
			request.Challenge = o.Challenge(ctx)
			o.Fail(w, r, origin.Wrap(origin.Errorf(origin.ErrUnauthorized, "the credentials are not accepted"), err))
		}
	})
}

// Attempt says what came of the credentials of a request: accepted, rejected or error,
// and by which method: that of who they are of, or what they look like (basic, bearer,
// other) where nobody accepts them. result is "" where none were shown.
func Attempt(r *http.Request, who authz.Identity, err error) (method, result string) {
	switch {
	case err == nil && !who.Authenticated():
		return "", ""
	case err == nil:
		return string(who.Method), "accepted"
	case errors.Is(err, authz.ErrUnavailable):
		return scheme(r), "error"
	default:
		return scheme(r), "rejected"
	}
}

// Level is how loud it is said why credentials are not accepted: at debug who is wrong,
// which is nobody's concern but theirs, and that too many ask, which whoever counts them
// says; at warn what keeps them from being checked.
func Level(err error) slog.Level {
	if errors.Is(err, authz.ErrUnavailable) && !errors.Is(err, authz.ErrBusy) {
		return slog.LevelWarn
	}
	return slog.LevelDebug
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
