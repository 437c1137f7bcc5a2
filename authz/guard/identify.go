package guard

import (
	"context"
	"errors"
	"net/http"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin"
)

// Identify finds out who asks, and puts it into the request for those behind. client
// says where a request comes from. Requests whose credentials nobody accepts go no
// further: they are answered by fail, which writes an error.
func Identify(
	next http.Handler, a authz.Authenticator, client func(r *http.Request) authz.Client,
	challenge func(ctx context.Context) []string, fail func(w http.ResponseWriter, r *http.Request, err error),
) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := origin.RequestOf(r.Context())
		who, err := a.Authenticate(r)
		who.Client = client(r)
		request.Principal = who
		switch {
		case err == nil:
			next.ServeHTTP(w, r)
		case errors.Is(err, authz.ErrUnavailable):
			w.Header().Set("Retry-After", "1")
			fail(w, r, origin.Wrap(origin.Errorf(origin.ErrUnavailable, "who you are cannot be checked now"), err))
		default:
			request.Challenge = challenge(r.Context())
			fail(w, r, origin.Wrap(origin.Errorf(origin.ErrUnauthorized, "the credentials are not accepted"), err))
		}
	})
}
