package acr

import (
	"context"
	"encoding/base64"
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
	// nobody is the user name of whoever shows a token.
	nobody = "00000000-0000-0000-0000-000000000000"
	// life is that of a refresh token that does not say how long it lives; those that
	// do say three hours.
	life      = time.Hour
	maxAnswer = 64 << 10
)

// Options say which registry, and who asks.
type Options struct {
	// Registry is its URL; of it the scheme and the host count.
	Registry *url.URL
	// Client is for Registry.
	Client *egress.Client
	// Entra makes a client for another URL; it goes through the environment's proxy
	// only if proxied is true: a machine's metadata is on the machine.
	Entra func(u *url.URL, proxied bool) *egress.Client
	// Env is the environment: [os.LookupEnv].
	Env func(string) (string, bool)
}

// New is the login for a registry.
func New(o Options) *login.Cache {
	s := &service{
		at:     &url.URL{Scheme: o.Registry.Scheme, Host: o.Registry.Host, Path: "/"},
		client: o.Client,
		entra:  entra{client: o.Entra, env: o.Env},
	}
	return login.NewCache(s.fetch)
}

type service struct {
	at     *url.URL
	client *egress.Client // the registry's
	entra  entra
}

func (s *service) fetch(ctx context.Context) (login.Login, time.Time, error) {
	access, err := s.entra.token(ctx)
	if err != nil {
		return login.Login{}, time.Time{}, fmt.Errorf("token of Entra ID: %w", err)
	}
	asked := time.Now()
	var said struct {
		RefreshToken string `json:"refresh_token"`
	}
	err = ask(ctx, s.client, egress.Form(s.at.JoinPath("oauth2", "exchange"), url.Values{
		"grant_type":   {"access_token"},
		"service":      {s.at.Hostname()},
		"access_token": {access},
	}), &said)
	if err == nil && said.RefreshToken == "" {
		err = errors.New("an answer without a token")
	}
	if err != nil {
		return login.Login{}, time.Time{}, fmt.Errorf("exchange at %s: %w", s.at.Host, err)
	}
	return login.Login{Username: nobody, Identity: egress.Conceal(said.RefreshToken)}, lapses(said.RefreshToken, asked), nil
}

// ask sends a request that holds a credential, which is therefore not followed
// where it is redirected, and reads the JSON that answers it. Its errors quote
// nothing: nobody knows what a server repeats.
func ask(ctx context.Context, c *egress.Client, q egress.Request, into any) error {
	a, err := c.Send(ctx, q, egress.Secret{})
	if err != nil {
		return err
	}
	defer a.Discard()
	b, err := egress.ReadAll(a.Body, maxAnswer)
	if a.StatusCode != http.StatusOK {
		var said struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(b, &said) == nil && isWord(said.Error) {
			return fmt.Errorf("status %d: %s", a.StatusCode, said.Error)
		}
		return fmt.Errorf("status %d", a.StatusCode)
	}
	if err != nil {
		return err
	}
	if json.Unmarshal(b, into) != nil {
		return errors.New("malformed JSON")
	}
	return nil
}

// isWord reports whether s is an error code of OAuth 2, such as invalid_grant.
func isWord(s string) bool {
	return s != "" && len(s) < 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// lapses is when a refresh token of that time lapses, which it says itself: it is a
// JWT. Nobody's trust hangs on it: the registry is who judges it.
func lapses(token string, asked time.Time) time.Time {
	otherwise := asked.Add(life)
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return otherwise
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return otherwise
	}
	var claims struct {
		Expires int64 `json:"exp"`
	}
	if json.Unmarshal(b, &claims) != nil {
		return otherwise
	}
	if at := time.Unix(claims.Expires, 0); at.After(asked) && at.Before(asked.Add(24*time.Hour)) {
		return at
	}
	return otherwise
}
