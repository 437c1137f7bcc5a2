package remotetest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Bearer says how tokens are had.
type Bearer struct {
	// Username and Password are needed for a token that gives access; without them
	// everybody's does.
	Username, Password string
	// Own puts the token server on the registry's own port, where credentials may
	// be sent; else it has another.
	Own bool
	// Realm is where the challenge leads instead of the token server.
	Realm string
	// ExpiresIn is the expires_in of an answer, in seconds; 0 = not said.
	ExpiresIn int
	// AccessToken answers with access_token instead of token.
	AccessToken bool
}

type bearer struct {
	Bearer
	realm  string
	serial int
	issued map[string]string // token -> scope, "" = none
}

// service is what tokens are for.
const service = "remotetest"

// Basic lets the registry ask for a username and password.
func (u *Upstream) Basic(username, password string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.basic = basicOf(username, password)
	u.bearer = nil
}

// Bearer lets the registry ask for tokens.
func (u *Upstream) Bearer(b Bearer) {
	realm := b.Realm
	if realm == "" && b.Own {
		realm = u.url.JoinPath("token").String()
	}
	if realm == "" {
		realm = u.tokenServer().JoinPath("token").String()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.basic = ""
	next := &bearer{Bearer: b, realm: realm, issued: map[string]string{}}
	if u.bearer != nil {
		next.serial = u.bearer.serial // no token is given out twice
	}
	u.bearer = next
}

// RevokeTokens makes all tokens that were given out so far worthless.
func (u *Upstream) RevokeTokens() {
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.bearer.issued)
}

func (u *Upstream) tokenServer() *url.URL {
	u.mu.Lock()
	at := u.token
	u.mu.Unlock()
	if at == nil {
		at = u.serve("token", http.HandlerFunc(u.issue))
		u.mu.Lock()
		u.token = at
		u.mu.Unlock()
	}
	return at
}

// admits answers whoever may not ask with a challenge.
func (u *Upstream) admits(w http.ResponseWriter, r *http.Request, name string) bool {
	challenge := u.challenge(r.Header.Get("Authorization"), name)
	if challenge == "" {
		return true
	}
	w.Header().Set("WWW-Authenticate", challenge)
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
	return false
}

// challenge is for who asks with that authorization, "" if it is good.
func (u *Upstream) challenge(authorization, name string) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.basic != "" && authorization != u.basic:
		return `Basic realm="upstream"`
	case u.bearer != nil && !u.bearer.admits(authorization, name):
		challenge := fmt.Sprintf(`Bearer realm=%q,service=%q`, u.bearer.realm, service)
		if name != "" {
			challenge += fmt.Sprintf(`,scope=%q`, scopeOf(name))
		}
		return challenge
	}
	return ""
}

func (b *bearer) admits(authorization, name string) bool {
	token, ok := strings.CutPrefix(authorization, "Bearer ")
	if !ok {
		return false
	}
	scope, ok := b.issued[token]
	return ok && (name == "" || scope == scopeOf(name))
}

// issue answers the token server's port, and the registry's own /token.
func (u *Upstream) issue(w http.ResponseWriter, r *http.Request) {
	status, answer := u.grant(r.URL.Query(), r.Header.Get("Authorization"))
	if status != http.StatusOK {
		refuse(w, status, "UNAUTHORIZED")
		return
	}
	answerJSON(w, "application/json", answer)
}

// grant gives a token to whoever asks with that authorization.
func (u *Upstream) grant(q url.Values, authorization string) (status int, answer map[string]any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	b := u.bearer
	if b == nil || q.Get("service") != service {
		return http.StatusBadRequest, nil
	}
	known := b.Username == "" || authorization == basicOf(b.Username, b.Password)
	if authorization != "" && !known {
		return http.StatusUnauthorized, nil
	}
	b.serial++
	token := fmt.Sprintf("token-%d", b.serial)
	b.issued[token] = ""
	if known {
		b.issued[token] = q.Get("scope")
	}
	answer = map[string]any{"token": token}
	if b.AccessToken {
		answer = map[string]any{"access_token": token}
	}
	if b.ExpiresIn != 0 {
		answer["expires_in"] = b.ExpiresIn
	}
	return http.StatusOK, answer
}

func scopeOf(name string) string { return "repository:" + name + ":pull" }

func basicOf(username, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(username+":"+password))
}
