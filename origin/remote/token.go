package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
)

const (
	maxTokenBody = 64 << 10
	minLife      = 60 * time.Second // of a token; what the specification has clients assume, too
	maxLife      = 24 * time.Hour   // longer is not believed
	headStart    = 30 * time.Second // how much earlier, at most, another is had
)

// exchange gets a token from the token server of a challenge (distribution's
// token specification). The endpoint's credentials go along if it may see them;
// else the token is what everybody gets. A login that the server refuses is had
// anew, and shown once more if it is another.
func (k *keyring) exchange(ctx context.Context, key tokenKey) (token, error) {
	realm, err := k.out.Lead(k.root, key.challenge.realm)
	if err != nil {
		return token{}, fmt.Errorf("realm: %w", err)
	}
	if !k.out.Trusts(realm) || k.login == nil {
		return k.buy(ctx, realm, key, login.Login{})
	}
	l, err := k.who(ctx)
	if err != nil {
		return token{}, err
	}
	t, err := k.buy(ctx, realm, key, l)
	if refused, ok := errors.AsType[*refusal](err); !ok || !denies(refused.status) {
		return t, err
	}
	k.login.Drop(l)
	next, nextErr := k.who(ctx)
	if nextErr != nil {
		return token{}, nextErr // it was refused for its age: there is nothing to show
	}
	if same(next, l) {
		return t, err
	}
	return k.buy(ctx, realm, key, next)
}

// buy gets a token from a token server for a login, which is not checked here to
// be allowed to go there.
func (k *keyring) buy(ctx context.Context, realm *url.URL, key tokenKey, l login.Login) (token, error) {
	asked := time.Now()
	password := l.Password
	if l.Identity != (egress.Secret{}) {
		a, err := k.refresh(ctx, realm, key, l)
		if err != nil {
			return token{}, err
		}
		switch a.StatusCode {
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed:
			// So say servers which have no POST: ACR, Artifactory, GCR.
			a.Discard()
			password = l.Identity
		default:
			return sold(a, asked)
		}
	}
	at, q := *realm, realm.Query()
	if l.Username != "" {
		q.Set("account", l.Username)
	}
	if key.challenge.service != "" {
		q.Set("service", key.challenge.service)
	}
	for scope := range strings.FieldsSeq(key.scope) {
		q.Add("scope", scope) // one each; a form has them in one
	}
	at.RawQuery = q.Encode()
	a, err := follow(ctx, k.out, egress.Request{URL: &at, Header: accepting("application/json")}, basic(l, password))
	if err != nil {
		return token{}, err
	}
	return sold(a, asked)
}

// refresh asks for a token by a refresh token (distribution's OAuth2 specification).
// It is not followed where it is redirected: the body has the credential.
func (k *keyring) refresh(ctx context.Context, realm *url.URL, key tokenKey, l login.Login) (*answer, error) {
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {"weir"}, "refresh_token": {l.Identity.Reveal()}}
	if key.challenge.service != "" {
		form.Set("service", key.challenge.service)
	}
	if key.scope != "" {
		form.Set("scope", key.scope)
	}
	a, err := k.out.Send(ctx, egress.Form(realm, form), egress.Secret{})
	if err != nil {
		return nil, err
	}
	return newAnswer(a, egress.Conceal("Refresh "+l.Identity.Reveal())), nil
}

// sold reads a token server's answer to a request of that time.
func sold(a *answer, asked time.Time) (token, error) {
	defer a.Discard()
	if a.StatusCode != http.StatusOK {
		return token{}, refusedToken(a)
	}
	if err := a.intact(); err != nil {
		return token{}, err
	}
	b, err := readAll(a.Body, maxTokenBody)
	if err != nil {
		return token{}, err
	}
	return readToken(b, asked)
}

// denies reports whether a status is about who asks.
func denies(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// same reports whether two logins are shown alike.
func same(a, b login.Login) bool {
	return a.Username == b.Username && a.Password.Reveal() == b.Password.Reveal() && a.Identity.Reveal() == b.Identity.Reveal()
}

// refusedToken makes of a token server's status one of the endpoint: that it
// wants other credentials or fewer requests is as good as the endpoint's word;
// anything else says nothing of what the endpoint has.
func refusedToken(a *answer) error {
	r := &refusal{wait: a.wait, text: fmt.Sprintf("status %d", a.StatusCode)}
	if e, ok := errors.AsType[*refusal](a.refusal()); ok {
		r.text = e.text
	}
	switch a.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		r.status = a.StatusCode
	}
	return r
}

// readToken reads a token server's answer to a request of that time.
func readToken(b []byte, asked time.Time) (token, error) {
	var said struct {
		Token       string      `json:"token"`
		AccessToken string      `json:"access_token"`
		ExpiresIn   json.Number `json:"expires_in"` // seconds; some send a string, some a fraction
	}
	if err := json.Unmarshal(b, &said); err != nil {
		return token{}, wrongAnswer("malformed JSON")
	}
	if said.Token == "" {
		said.Token = said.AccessToken
	}
	// It goes into a header (RFC 6750, 2.1).
	if said.Token == "" || strings.ContainsFunc(said.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return token{}, wrongAnswer("no token in it")
	}
	life := minLife
	if seconds, err := said.ExpiresIn.Float64(); err == nil && seconds > minLife.Seconds() {
		life = time.Duration(min(seconds, maxLife.Seconds()) * float64(time.Second))
	}
	return token{authorization: egress.Conceal("Bearer " + said.Token), expires: asked.Add(life - min(life/4, headStart))}, nil
}
