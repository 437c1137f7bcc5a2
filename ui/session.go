package ui

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

const (
	// sessionLife is how long people stay signed in, and so how long what a provider said of
	// them holds: a working day.
	sessionLife = 8 * time.Hour
	// loginLife is how long a provider may take to sign somebody in.
	loginLife = 10 * time.Minute

	sessionCookie = "weir_session"
	loginCookie   = "weir_login"
	loginPath     = Root + "login/callback"

	// largestCookie is what browsers keep in one (4096 bytes with its name and attributes),
	// and mostCookies how many a session has: somebody may have claims of 8 KiB.
	largestCookie = 3800
	mostCookies   = 4
)

// SignIn is how people sign in.
type SignIn struct {
	// Password checks a name and a password that come as in a Basic header; nil: there are
	// none.
	Password authz.Authenticator
	// Providers are those that may vouch for people.
	Providers []Provider
	// Key is the secret that sessions are sealed with, the same for all replicas.
	Key func(ctx context.Context) ([]byte, error)
	// Stamp names what somebody is known by now, such as their password: a session ends when
	// that changes. ok is false for those whom it does not know. nil: it knows nobody.
	Stamp func(id string) (stamp string, ok bool)
	// Ended remembers who has signed out; nil: a copy of a session holds until its time is
	// over.
	Ended Ended
	// Attempted is told what came of it: accepted, rejected or error.
	Attempted func(method, result string)
}

// Ended remembers, for all replicas, which sessions were ended before their time was over.
type Ended interface {
	// End has a session of that name be ended, which would have ended by itself at until.
	End(ctx context.Context, name string, until time.Time) error
	// Ended reports whether it is.
	Ended(ctx context.Context, name string, until time.Time) (bool, error)
}

// Provider vouches for people: the code flow of OpenID Connect, with PKCE.
type Provider interface {
	Name() string
	// Issuer is what it calls itself, a URL.
	Issuer() string
	// Begin gives where the browser goes, to come back to redirect.
	Begin(ctx context.Context, redirect, state, nonce, verifier string) (string, error)
	// Finish finds who came back with a code. Errors: authz.ErrRejected, authz.ErrUnavailable.
	Finish(ctx context.Context, redirect, code, nonce, verifier string) (authz.Identity, error)
}

func (s SignIn) possible() bool { return s.Password != nil || len(s.Providers) > 0 }

// sessions seals and opens what browsers keep for us.
type sessions struct{ SignIn }

// session is somebody who is signed in.
type session struct {
	Name     string       `json:"name"` // nobody's but its own, and no secret
	ID       string       `json:"id"`
	Username string       `json:"username"`
	Groups   []string     `json:"groups,omitempty"`
	Method   authz.Method `json:"method"`
	OIDC     *authz.OIDC  `json:"oidc,omitempty"`
	Stamp    string       `json:"stamp,omitempty"`
	Until    time.Time    `json:"until"`
}

// aead is the seal of cookies of that name: one cannot stand for another.
func (s sessions) aead(ctx context.Context, name string) (cipher.AEAD, error) {
	secret, err := s.Key(ctx)
	if err != nil {
		return nil, fmt.Errorf("key of sessions: %w", err)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "weir ui "+name, 32)
	if err != nil {
		return nil, fmt.Errorf("key of sessions: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("key of sessions: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (s sessions) seal(ctx context.Context, name string, v any) (string, error) {
	aead, err := s.aead(ctx, name)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("seal %s: %w", name, err)
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, text, nil)), nil
}

// errSession says that a cookie is none of ours, or not any more.
var errSession = errors.New("ui: no session that holds")

// open is the inverse of seal. Errors: errSession.
func (s sessions) open(ctx context.Context, name, value string, v any) error {
	aead, err := s.aead(ctx, name)
	if err != nil {
		return err
	}
	sealed, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return errSession
	}
	text, err := aead.Open(nil, nil, sealed, nil)
	if err != nil || json.Unmarshal(text, v) != nil {
		return errSession
	}
	return nil
}

// identify lets a request be that of whoever is signed in, unless it shows other
// credentials.
func (s sessions) identify(r *http.Request) {
	request, was := origin.RequestOf(r.Context()), guard.Who(r.Context())
	if was.Authenticated() || was.Scope != nil || !s.possible() {
		return
	}
	who, err := s.of(r)
	if err != nil {
		return // nobody, as without one
	}
	who.Client = was.Client
	request.Principal = who
}

// of gives who is signed in. Errors: errSession; it cannot be known now.
func (s sessions) of(r *http.Request) (authz.Identity, error) {
	is, err := s.held(r)
	return is.identity(), err
}

func (s session) identity() authz.Identity {
	return authz.Identity{ID: s.ID, Username: s.Username, Groups: s.Groups, Method: s.Method, OIDC: s.OIDC}
}

// held gives the session of a browser that holds. Errors: as those of of.
func (s sessions) held(r *http.Request) (session, error) {
	var value strings.Builder
	for i := range mostCookies {
		part, err := r.Cookie(cookieName(i))
		if err != nil {
			break
		}
		value.WriteString(part.Value)
	}
	if value.Len() == 0 {
		return session{}, errSession
	}
	var is session
	if err := s.open(r.Context(), sessionCookie, value.String(), &is); err != nil {
		return session{}, err
	}
	if stamp, known := s.stamp(is.identity()); !known || stamp != is.Stamp || is.ID == "" || is.Name == "" || !time.Now().Before(is.Until) {
		return session{}, errSession
	}
	if s.Ended == nil {
		return is, nil
	}
	switch ended, err := s.Ended.Ended(r.Context(), is.Name, is.Until); {
	case err != nil:
		return session{}, fmt.Errorf("whether a session was ended: %w", err)
	case ended:
		return session{}, errSession
	}
	return is, nil
}

// stamp names what somebody is known by now: of those whom a provider vouches for it is its
// issuer. known is false where nobody vouches for them any more.
func (s sessions) stamp(who authz.Identity) (stamp string, known bool) {
	if who.OIDC != nil {
		for _, p := range s.Providers {
			if p.Name() == who.OIDC.Provider {
				return p.Issuer(), true
			}
		}
		return "", false
	}
	if s.Stamp == nil {
		return "", false
	}
	return s.Stamp(who.ID)
}

func cookieName(i int) string {
	if i == 0 {
		return sessionCookie
	}
	return fmt.Sprintf("%s_%d", sessionCookie, i)
}

// begin signs somebody in. stamp is what they were known by when they were found out.
func (s sessions) begin(w http.ResponseWriter, r *http.Request, who authz.Identity, stamp string) error {
	value, err := s.seal(r.Context(), sessionCookie, session{
		Name: rand.Text(), ID: who.ID, Username: who.Username, Groups: who.Groups, Method: who.Method, OIDC: who.OIDC,
		Stamp: stamp, Until: time.Now().Add(sessionLife),
	})
	if err != nil {
		return err
	}
	if len(value) > mostCookies*largestCookie {
		return origin.Errorf(origin.ErrDenied, "the provider says more of you than a browser keeps")
	}
	for i := range mostCookies {
		part := value[:min(len(value), largestCookie)]
		value = value[len(part):]
		if part == "" {
			drop(w, r, cookieName(i), Root)
			continue
		}
		put(w, r, http.Cookie{Name: cookieName(i), Value: part, Path: Root, MaxAge: int(sessionLife / time.Second), SameSite: http.SameSiteStrictMode})
	}
	return nil
}

// end signs somebody out: the browser forgets the session, and a copy of it does not hold
// any more. Errors: it cannot be ended now; the browser forgets it all the same.
func (s sessions) end(w http.ResponseWriter, r *http.Request) error {
	for i := range mostCookies {
		drop(w, r, cookieName(i), Root)
	}
	is, err := s.held(r)
	if err == nil && s.Ended != nil {
		err = s.Ended.End(r.Context(), is.Name, is.Until)
	}
	if err != nil && !errors.Is(err, errSession) {
		return origin.Wrap(origin.Errorf(origin.ErrUnavailable, "this browser has forgotten your session, but it cannot be ended now: a copy of its cookie would hold until its time is over"), err)
	}
	return nil
}

// put gives a browser a cookie that no script reads, and that it keeps to itself where the
// connection can be read.
func put(w http.ResponseWriter, r *http.Request, c http.Cookie) {
	c.HttpOnly, c.Secure = true, strings.HasPrefix(base(r), "https:")
	http.SetCookie(w, &c)
}

func drop(w http.ResponseWriter, r *http.Request, name, path string) {
	put(w, r, http.Cookie{Name: name, Path: path, MaxAge: -1, SameSite: http.SameSiteStrictMode})
}

// base is how the browser reached this server: scheme and host.
func base(r *http.Request) string {
	if of := origin.RequestOf(r.Context()).Base; of != nil {
		return of()
	}
	return "http://" + r.Host
}
