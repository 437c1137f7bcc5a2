package remote

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// challenge is how an endpoint wants to be asked: it is comparable. The zero
// challenge wants nothing, or nothing that we know.
type challenge struct {
	scheme  string // "basic", "bearer", ""
	realm   string // of bearer: a URL, as it came
	service string
}

// Challenge is what a 401 asks for, for whoever answers it by hand.
type Challenge struct {
	Scheme                string // "basic" or "bearer"
	Realm, Service, Scope string // of bearer, as they came
}

// ParseChallenge reads the WWW-Authenticate headers of a 401. ok is false where
// there is none that clients know.
func ParseChallenge(ctx context.Context, h http.Header) (c Challenge, ok bool) {
	found, scope, ok := parseChallenge(ctx, h)
	return Challenge{Scheme: found.scheme, Realm: found.realm, Service: found.service, Scope: scope}, ok
}

// parseChallenge reads the WWW-Authenticate headers of a 401 (RFC 9110, 11.6.1;
// distribution's token specification), and the scope that the request would have
// needed, "" if it does not say. ok is false where there is no challenge.
//
// The grammar is go-containerregistry's, whose parser is behind Ping alone: Ping
// is given the answer that is there already.
func parseChallenge(ctx context.Context, h http.Header) (c challenge, scope string, ok bool) {
	if h.Get("WWW-Authenticate") == "" {
		return challenge{}, "", false
	}
	// Over a registry of a public name Ping makes one request, by https.
	registry, err := name.NewRegistry("registry.invalid")
	if err != nil {
		return challenge{}, "", false
	}
	found, err := transport.Ping(ctx, registry, replay{h})
	if err != nil {
		return challenge{}, "", false
	}
	switch c.scheme = strings.ToLower(found.Scheme); c.scheme {
	case "bearer":
		c.realm, c.service = found.Parameters["realm"], found.Parameters["service"]
		return c, found.Parameters["scope"], c.realm != ""
	case "basic":
		return c, "", true
	default:
		return challenge{}, "", false
	}
}

// replay answers with a 401 that came before.
type replay struct{ header http.Header }

func (p replay) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusUnauthorized, Request: req, Body: http.NoBody,
		Header: http.Header{"Www-Authenticate": p.header.Values("WWW-Authenticate")},
	}, nil
}

// reading reports whether a scope asks for no more than to read: one that a
// challenge names is taken over only then. (ACR wants metadata_read for tags.)
func reading(scope string) bool {
	if scope == "" || len(scope) > 1<<10 {
		return false
	}
	for part := range strings.FieldsSeq(scope) {
		actions := part[strings.LastIndexByte(part, ':')+1:]
		if !strings.HasPrefix(part, "repository:") || slices.ContainsFunc(strings.Split(actions, ","), func(action string) bool {
			return action != "pull" && action != "metadata_read"
		}) {
			return false
		}
	}
	return true
}
