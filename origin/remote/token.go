package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/weir-registry/weir/origin/remote/egress"
)

const (
	maxTokenBody = 64 << 10
	minLife      = 60 * time.Second // of a token; what the specification has clients assume, too
	maxLife      = 24 * time.Hour   // longer is not believed
	headStart    = 30 * time.Second // how much earlier, at most, another is had
)

// exchange gets a token from the token server of a challenge (distribution's
// token specification). The endpoint's credentials go along if it may see them;
// else the token is what everybody gets.
func (k *keyring) exchange(ctx context.Context, key tokenKey) (token, error) {
	realm, err := k.out.Lead(k.root, key.challenge.realm)
	if err != nil {
		return token{}, fmt.Errorf("realm: %w", err)
	}
	var authorization egress.Secret
	q := realm.Query()
	if key.challenge.service != "" {
		q.Set("service", key.challenge.service)
	}
	for scope := range strings.FieldsSeq(key.scope) {
		q.Add("scope", scope)
	}
	if k.out.Trusts(realm) {
		if authorization, err = k.basic(); err != nil {
			return token{}, err
		}
		if k.username != "" {
			q.Set("account", k.username)
		}
	}
	realm.RawQuery = q.Encode()
	asked := time.Now()
	a, err := follow(ctx, k.out, egress.Request{Method: http.MethodGet, URL: realm, Header: accepting("application/json")}, authorization)
	if err != nil {
		return token{}, err
	}
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
