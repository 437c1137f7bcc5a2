package authz

import (
	"errors"
	"net/http"
)

// Chain asks authenticators one after another. Credentials that none accepts are
// rejected, never taken for nobody's.
//
// A certificate and an Authorization header are both credentials. Where both come, the
// certificate says who it is, and somebody must accept the header too; a token that is
// bounded bounds the request all the same. For that, whoever reads certificates stands
// before those who read the header.
type Chain []Authenticator

// Authenticate implements Authenticator: who asks, or nobody where no credentials are
// shown at all. Errors: ErrRejected, ErrUnavailable.
func (c Chain) Authenticate(r *http.Request) (Identity, error) {
	shown := len(r.Header["Authorization"])
	if shown > 1 {
		return Identity{}, ErrRejected // which of them counts, two readers may see differently
	}
	var (
		owner       Identity // of the certificate
		certified   bool
		unavailable error
	)
	for _, a := range c {
		who, err := a.Authenticate(r)
		switch {
		case err == nil && certified:
			owner.Scope = who.Scope
			return owner, nil
		case err == nil && who.Method == MethodMTLS && shown > 0:
			owner, certified = who, true
		case err == nil:
			return who, nil
		case errors.Is(err, ErrUnavailable):
			unavailable = err // another one may know them
		case !errors.Is(err, ErrNone):
			return Identity{}, err
		}
	}
	switch {
	case unavailable != nil:
		return Identity{}, unavailable
	case shown > 0:
		return Identity{}, ErrRejected
	default:
		return Identity{Method: MethodNone}, nil
	}
}
