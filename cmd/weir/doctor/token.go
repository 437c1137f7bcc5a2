package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
)

// ping asks what podman and Docker's classic store ask first. It reports whether the
// client goes on.
func (s *session) ping(ctx context.Context) bool {
	const name = "ping"
	r := s.send(ctx, request{method: http.MethodGet})
	if r.err != nil {
		s.breaks(name, r, r.came(), s.goesOn(), silent)
		return false
	}
	defer r.discard()
	challenge, challenged := remote.ParseChallenge(ctx, r.answer.Header)
	switch status := r.answer.StatusCode; {
	case status == http.StatusUnauthorized && !challenged:
		s.breaks(name, r, r.came()+", "+quoted("WWW-Authenticate", r.header("WWW-Authenticate")),
			"takes how to log in from this answer alone: it asks on as nobody, and a login fails", challengeHint)
	case status == http.StatusUnauthorized:
		s.ok(name, r, "a challenge ("+challenge.Scheme+")")
		s.identify(ctx, r, challenge)
		return !s.told
	case status == http.StatusOK:
		s.ok(name, r)
	case s.c.kind == podman:
		s.breaks(name, r, r.came(), "takes this for no registry, and "+s.goesOn(), "answer GET /v2/ with 200, or 401 and a challenge")
		return false
	default:
		s.note(name, r, r.came(), "asks on as nobody; docker login fails", "answer GET /v2/ with 200, or 401 and a challenge")
	}
	return true
}

// identify does what the challenge of an answer asks for, and remembers what to show.
func (s *session) identify(ctx context.Context, asked reply, c remote.Challenge) {
	s.asked = true
	who, err := s.who(ctx)
	if err != nil {
		s.note("login", asked, err.Error(), "is seen here as who is not logged in", "mend Docker's configuration, or log in again")
	}
	if c.Scheme == "bearer" {
		s.token(ctx, asked, c, who)
		return
	}
	if who == (login.Login{}) || who.Identity != noSecret {
		s.refuse("login", asked, "a user name and a password are wanted", s.goesOn(), s.loginHint())
		return
	}
	s.authorization, s.known = basic(who.Username, who.Password), true
	s.add(OK, "login", asked.line, "as "+origin.Quote(who.Username), "", "")
}

// who is whom the client would log in as.
func (s *session) who(ctx context.Context) (login.Login, error) {
	if s.anonymous {
		return login.Login{}, nil
	}
	l, err := s.Login.Login(ctx)
	if err != nil || l.Username+l.Password.Reveal()+l.Identity.Reveal() == "" {
		return login.Login{}, err
	}
	return l, nil
}

// introduce lets containerd show a mirror a login where nobody is not let in. It has
// none there by itself, but may be given one.
func (s *session) introduce(ctx context.Context) {
	if s.c.kind != containerd || !s.mirrored() {
		return
	}
	known := newSession(s.Options, s.c)
	known.anonymous = false
	if who, err := known.who(ctx); err == nil && who == (login.Login{}) {
		return
	}
	r := newSession(s.Options, s.c).manifest(ctx, http.MethodHead, s.Image.Ref.String(), s.c.accepts)
	r.discard()
	if !r.is(http.StatusUnauthorized) && !r.is(http.StatusForbidden) {
		return
	}
	s.anonymous = false
	s.note("login", r, r.came()+" for nobody", "has no login for a mirror by itself: those of Kubernetes are for the registry",
		"let anybody pull, or put Authorization below [host.\""+s.Server.String()+"\".header] of hosts.toml; what follows is seen with it")
}

func (s *session) loginHint() string {
	switch {
	case s.c.kind == containerd && s.mirrored():
		return "let anybody pull; or log in to " + s.Server.Host + " and call this again, and give containerd that login in hosts.toml"
	case s.anonymous:
		return "let anybody who reaches this server pull from it: Docker shows a mirror no credentials"
	case s.mirrored():
		return "let anybody pull; or log in to " + s.Server.Host + " and call this again"
	}
	return "log in to " + s.Server.Host + " (docker login, podman login) and call this again"
}

// token gets one from the challenge's token server.
func (s *session) token(ctx context.Context, asked reply, c remote.Challenge, who login.Login) {
	const name = "token"
	realm, err := s.Out.Lead(s.Server, c.Realm)
	if err != nil {
		s.refuse(name, asked, "realm "+origin.Quote(c.Realm)+": "+err.Error(), "has nobody to get a token from, and "+s.goesOn(), realmHint)
		return
	}
	shown := who
	if !s.Out.Trusts(realm) {
		shown = login.Login{}
	}
	r := s.buy(ctx, realm, c, shown)
	switch {
	case r.err != nil:
		s.refuse(name, r, r.came(), "gets no token, and "+s.goesOn(), realmHint)
		return
	case !r.is(http.StatusOK):
		r.discard()
		hint := "see why the token server refuses " + origin.Quote(who.Username)
		if shown == (login.Login{}) {
			hint = s.loginHint()
		}
		if who != shown {
			hint = "realm is on another host, to which weir doctor shows no login: see for yourself"
		}
		s.refuse(name, r, r.came(), "gets no token, and "+s.goesOn(), hint)
		return
	}
	token, err := readToken(r)
	if err != nil {
		s.refuse(name, r, r.came()+", "+err.Error(), "gets no token, and "+s.goesOn(), "see what answers at the realm")
		return
	}
	s.authorization, s.known = egress.Conceal("Bearer "+token), shown != (login.Login{})
	as := "for anybody"
	if s.known {
		as = "as " + origin.Quote(shown.Username)
	}
	if realm.Host != s.Server.Host {
		as += ", from " + realm.Host
	}
	s.ok(name, r, as)
}

// buy asks a token server.
func (s *session) buy(ctx context.Context, realm *url.URL, c remote.Challenge, who login.Login) reply {
	at, q := *realm, realm.Query()
	if c.Service != "" {
		q.Set("service", c.Service)
	}
	scopes := []string{s.scope}
	if !s.c.pings { // it asks for what it was told to, besides
		scopes = append(scopes, strings.Fields(c.Scope)...)
	}
	slices.Sort(scopes)
	q["scope"] = slices.Compact(scopes)
	if who.Identity != noSecret {
		q.Set("scope", strings.Join(q["scope"], " "))
		q.Set("grant_type", "refresh_token")
		q.Set("client_id", "weir")
		q.Set("refresh_token", who.Identity.Reveal())
		a, err := s.Out.Send(ctx, egress.Form(&at, q), noSecret)
		return reply{line: "POST " + at.Redacted(), answer: a, err: err}
	}
	authorization := noSecret
	if who != (login.Login{}) {
		q.Set("account", who.Username)
		authorization = basic(who.Username, who.Password)
	}
	at.RawQuery = q.Encode()
	a, err := s.Out.Follow(ctx, egress.Request{URL: &at}, authorization)
	return reply{line: "GET " + at.Redacted(), answer: a, err: err}
}

// readToken reads a token server's answer.
func readToken(r reply) (string, error) {
	const most = 64 << 10
	b, err := r.read(most)
	if err != nil {
		return "", err
	}
	var said struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return "", fmt.Errorf("no JSON")
	}
	if said.Token == "" {
		said.Token = said.AccessToken
	}
	if said.Token == "" || strings.ContainsFunc(said.Token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", fmt.Errorf("no token in it")
	}
	return said.Token, nil
}

// refuse says why the client is not let in: what it is refused from then on is no news.
func (s *session) refuse(name string, r reply, answer, effect, hint string) {
	s.told = true
	s.breaks(name, r, answer, effect, hint)
}

func basic(username string, password egress.Secret) egress.Secret {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(username, password.Reveal())
	return egress.Conceal(r.Header.Get("Authorization"))
}
