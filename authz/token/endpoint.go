package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/weir-registry/weir/authz"
)

var (
	// ErrRequest says that what is asked at /token is not understood. Its text is for
	// the client.
	ErrRequest = errors.New("the request for a token is not understood")
	// ErrMethod says that it is neither GET nor POST.
	ErrMethod = errors.New("tokens are asked for by GET or POST")
)

// maxForm is the largest body of a POST, in bytes: a password may be a token.
const maxForm = 64 << 10

// Stamper knows whether somebody is still who they were.
type Stamper interface {
	// Stamp names what somebody is known by now, such as their password. ok is false
	// where it does not know them. id is an Identity's.
	Stamp(id string) (stamp string, ok bool)
}

// Options are the circumstances of an endpoint for tokens.
type Options struct {
	Issuer *Issuer
	// Who finds out who asks. It may know tokens too: they buy none.
	Who authz.Authenticator
	// Client says where a request comes from.
	Client func(r *http.Request) authz.Client
	// Rights decides on what a token is for.
	Rights authz.Authorizer
	// Locate finds the names that it decides about; nil: names stand as they are.
	Locate Locate
	// Stamper knows those who are given refresh tokens; nil: nobody is.
	Stamper Stamper
	// Identified is told who asks, or why nobody accepts what was shown, of which r has
	// what comes in a header or as a name and a password; nil: nobody is.
	Identified func(r *http.Request, who authz.Identity, err error)
	// Fail answers with an error, which is one of authz.ErrRejected (who asks shall say
	// who they are), authz.ErrUnavailable (Retry-After is set), ErrRequest and ErrMethod.
	Fail func(w http.ResponseWriter, r *http.Request, err error)
}

// NewEndpoint makes what answers at /token (distribution's token specification, "Token
// Authentication" and "Oauth2 Token Authentication").
//
// GET takes credentials by header and the parameters scope, which may repeat, and
// offline_token; POST takes a form with grant_type password (username, password) or
// refresh_token, client_id, scope, and access_type=offline. Nobody's token is given to
// who shows nothing. service and account may say what they like: tokens are for here.
func NewEndpoint(o Options) http.Handler {
	if o.Locate == nil {
		o.Locate = func(_ context.Context, name string, _ bool) (string, string, error) { return name, "", nil }
	}
	if o.Identified == nil {
		o.Identified = func(*http.Request, authz.Identity, error) {}
	}
	return &endpoint{o}
}

type endpoint struct{ Options }

// asked is a request for a token.
type asked struct {
	who     authz.Identity
	shown   *http.Request // by which it was found out, but for a refresh token
	scope   authz.Scope
	refresh string // the refresh token that it came with
	offline bool   // a refresh token is asked for
}

// ServeHTTP implements http.Handler.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, err := e.read(w, r)
	var body []byte
	if err == nil {
		body, err = e.answer(r, a)
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store") // RFC 6749, 5.1
	if err != nil {
		switch {
		case errors.Is(err, authz.ErrUnavailable):
			header.Set("Retry-After", "1")
		case errors.Is(err, ErrMethod):
			header.Set("Allow", "GET, POST")
		}
		e.Fail(w, r, err)
		return
	}
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(body) // whoever does not read it asks again
}

func (e *endpoint) read(w http.ResponseWriter, r *http.Request) (asked, error) {
	switch r.Method {
	case http.MethodGet:
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return asked{}, fmt.Errorf("%w: its query cannot be read", ErrRequest)
		}
		who, err := e.identify(r)
		return asked{who: who, shown: r, scope: ParseScope(query["scope"]...), offline: query.Get("offline_token") == "true"}, err
	case http.MethodPost:
		form, err := readForm(w, r)
		if err != nil {
			return asked{}, err
		}
		a := asked{scope: ParseScope(form["scope"]...), offline: form.Get("access_type") == "offline"}
		switch grant := form.Get("grant_type"); {
		case form.Get("client_id") == "":
			return asked{}, fmt.Errorf("%w: client_id is missing", ErrRequest)
		case grant == "password":
			a.shown = withPassword(r, form.Get("username"), form.Get("password"))
			a.who, err = e.identify(a.shown)
		case grant == "refresh_token":
			a.refresh = form.Get("refresh_token")
			a.who, err = e.redeem(r.Context(), a.refresh)
			e.Identified(r, a.who, err)
		default:
			return asked{}, fmt.Errorf("%w: grant_type is neither password nor refresh_token", ErrRequest)
		}
		return a, err
	default:
		return asked{}, ErrMethod
	}
}

// readForm reads a form from the body, and from nowhere else: a password in a URL is in
// every log.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, fmt.Errorf("%w: it is no form", ErrRequest)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return nil, fmt.Errorf("%w: its form cannot be read", ErrRequest)
	}
	return r.PostForm, nil
}

// withPassword is the request with a name and a password where they are looked for.
func withPassword(r *http.Request, name, password string) *http.Request {
	c := r.Clone(r.Context())
	c.Body = http.NoBody
	if strings.Contains(name, ":") { // it would end there
		name, password = "", ""
	}
	c.SetBasicAuth(name, password)
	return c
}

// identify finds out who asks. Errors: authz.ErrRejected, authz.ErrUnavailable.
func (e *endpoint) identify(r *http.Request) (who authz.Identity, err error) {
	defer func() { e.Identified(r, who, err) }()
	return e.accept(r)
}

// accept is identify without a word of it.
func (e *endpoint) accept(r *http.Request) (authz.Identity, error) {
	who, err := e.Who.Authenticate(r)
	switch {
	case errors.Is(err, authz.ErrUnavailable):
		return authz.Identity{}, err
	case err != nil:
		return authz.Identity{}, fmt.Errorf("%w: %w", authz.ErrRejected, err)
	case who.Method == authz.MethodToken, who.Scope != nil:
		return authz.Identity{}, fmt.Errorf("%w: a token buys no other", authz.ErrRejected)
	}
	return who, nil
}

// redeem gives whom a refresh token is of, if they are still there.
// Errors: authz.ErrRejected, authz.ErrUnavailable.
func (e *endpoint) redeem(ctx context.Context, token string) (authz.Identity, error) {
	c, err := e.Issuer.redeem(ctx, token)
	switch {
	case errors.Is(err, errForeign):
		return authz.Identity{}, fmt.Errorf("%w: no refresh token that counts", authz.ErrRejected)
	case err != nil:
		return authz.Identity{}, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	case e.Stamper == nil:
		return authz.Identity{}, fmt.Errorf("%w: nobody vouches for its owner", authz.ErrRejected)
	}
	if stamp, ok := e.Stamper.Stamp(c.Subject); !ok || stamp != c.Stamp {
		return authz.Identity{}, fmt.Errorf("%w: the owner of the refresh token is gone, or has another password", authz.ErrRejected)
	}
	return c.identity(), nil
}

// answer makes the token, and says it as clients want to read it.
func (e *endpoint) answer(r *http.Request, a asked) ([]byte, error) {
	ctx := r.Context()
	who := a.who
	// As it will be when the token is used.
	who.Method, who.Scope, who.Client = authz.MethodToken, nil, e.Client(r)
	g := granter{rights: e.Rights, locate: e.Locate, who: who, left: maxDecisions}
	scope := g.grant(ctx, a.scope)
	issued, err := e.issue(ctx, who, &scope)
	if err != nil {
		return nil, err
	}
	// RFC 6749, 5.1, and distribution's older names for the same.
	body := struct {
		Token        string `json:"token"`
		AccessToken  string `json:"access_token"`
		TokenType    string `json:"token_type"`
		ExpiresIn    int64  `json:"expires_in"`
		IssuedAt     string `json:"issued_at"`
		Scope        string `json:"scope,omitempty"`
		RefreshToken string `json:"refresh_token,omitempty"`
	}{
		issued.Token, issued.Token, "Bearer", int64(issued.TTL / time.Second),
		issued.At.UTC().Format(time.RFC3339), scope.String(), a.refresh,
	}
	if a.offline && body.RefreshToken == "" {
		if body.RefreshToken, err = e.refresh(ctx, who, a.shown); err != nil {
			return nil, err
		}
	}
	return json.Marshal(body)
}

// refresh makes a refresh token for who; "": nobody vouches for them later. What was shown is accepted
// once more behind the stamp: the users may have changed while the scope was decided on, and a
// password that was replaced must not have its successor's. Errors: as those of identify.
func (e *endpoint) refresh(ctx context.Context, who authz.Identity, shown *http.Request) (string, error) {
	if e.Stamper == nil {
		return "", nil
	}
	stamp, ok := e.Stamper.Stamp(who.ID)
	if !ok {
		return "", nil
	}
	switch again, err := e.accept(shown); {
	case err != nil:
		return "", err
	case again.ID != who.ID:
		return "", fmt.Errorf("%w: it is somebody else's by now", authz.ErrRejected)
	}
	issued, err := e.Issuer.issueRefresh(ctx, who, stamp)
	if err != nil {
		return "", fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	return issued.Token, nil
}

// issue makes a token with as much of the scope as has room in it.
// Errors: ErrRequest, authz.ErrUnavailable.
func (e *endpoint) issue(ctx context.Context, who authz.Identity, scope *authz.Scope) (Issued, error) {
	for {
		issued, err := e.Issuer.Issue(ctx, who, *scope)
		switch {
		case err == nil:
			return issued, nil
		case !errors.Is(err, errTooLong):
			return Issued{}, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
		case len(*scope) == 0:
			return Issued{}, fmt.Errorf("%w: your groups and claims have no room in a token", ErrRequest)
		}
		*scope = (*scope)[:len(*scope)/2]
	}
}
