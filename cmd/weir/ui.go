package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/weir-registry/weir/authz/oidc"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/ui"
	"github.com/weir-registry/weir/ui/view"
)

// sessionKey is the record with the key for sessions of the pages.
const sessionKey = "ui/session-key"

// remembered is a mirror's meter whose history the pages show.
type remembered struct {
	*observe.Metrics
	history *view.History
}

var _ mirror.Meter = remembered{}

func (k *kept) meter() remembered { return remembered{k.metrics, k.history} }

// MirrorRequest implements mirror.Meter.
func (r remembered) MirrorRequest(upstream, kind, result string) {
	r.Metrics.MirrorRequest(upstream, kind, result)
	r.history.MirrorRequest(upstream, kind, result)
}

// ServedBytes implements mirror.Meter.
func (r remembered) ServedBytes(upstream string, n int64) {
	r.Metrics.ServedBytes(upstream, n)
	r.history.ServedBytes(upstream, n)
}

// UpstreamBytes counts bytes received from an upstream.
func (r remembered) UpstreamBytes(upstream string, n int64) {
	r.Metrics.UpstreamBytes(upstream, n)
	r.history.UpstreamBytes(upstream, n)
}

// newUI makes the pages for people; nil: there are none.
func (a *app) newUI(shown *view.View, records store.Records, c *config.Config, log *slog.Logger) (*ui.UI, error) {
	if !c.UI.Enabled {
		return nil, nil
	}
	signIn := ui.SignIn{Key: sessionKeyOf(records), Ended: endedSessions{records}, Attempted: a.rights.metrics.AuthAttempt}
	if a.rights.passwords != nil {
		signIn.Password, signIn.Stamp = a.rights.passwords, a.rights.passwords.Stamp
	}
	for _, l := range a.rights.logins {
		signIn.Providers = append(signIn.Providers, l)
	}
	return ui.New(ui.Options{Title: c.UI.Title, Shown: shown, SignIn: signIn, Host: c.Server.ExternalURL.Host, Stall: c.Server.Timeouts.Stall.Std(), Log: log})
}

// sessionKeyOf gives the key for sessions, which is made when it is first needed, and kept
// where all replicas find it.
func sessionKeyOf(records store.Records) func(ctx context.Context) ([]byte, error) {
	var (
		mu  sync.Mutex
		key []byte
	)
	return func(ctx context.Context) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if key != nil {
			return key, nil
		}
		fresh := make([]byte, 32)
		_, _ = rand.Read(fresh) // never fails
		kept, err := keptKey{records, sessionKey}.Keep(ctx, fresh)
		if err == nil && len(kept) != len(fresh) {
			err = errors.New("record " + sessionKey + " is damaged")
		}
		if err != nil {
			return nil, err
		}
		key = kept
		return key, nil
	}
}

// providerLogin is a way to sign in with a provider.
type providerLogin struct {
	*oidc.Login
	issuer, keys *egress.Client
}

// Close ends what is being fetched.
func (l providerLogin) Close() {
	l.Login.Close()
	l.issuer.Close()
	l.keys.Close()
}

// newLogins makes the ways to sign in with those providers that know weir as a client.
func newLogins(list []config.OIDC, network egress.Network, log *slog.Logger) ([]providerLogin, error) {
	var logins []providerLogin
	for _, c := range list {
		if c.ClientID == "" {
			continue
		}
		keys, err := wayTo(whereKeysAre(c), c, network, log)
		if err != nil {
			return nil, fmt.Errorf("authz.oidc: %s: %w", c.Name, err)
		}
		// client_secret is the issuer's, wherever the keys are.
		issuer, err := wayTo(c.Issuer, c, network, log)
		if err != nil {
			return nil, fmt.Errorf("authz.oidc: %s: %w", c.Name, err)
		}
		p, err := providerOf(c, keys)
		if err != nil {
			return nil, err
		}
		login, err := oidc.NewLogin(p, oidc.Client{ID: c.ClientID, Secret: c.ClientSecret.Value, Scopes: c.Scopes, Transport: issuer}, func(err error) {
			if err != nil {
				log.Warn("keys of a provider cannot be fetched for sign-in", "provider", c.Name, "error", err)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("authz.oidc: %w", err)
		}
		logins = append(logins, providerLogin{login, issuer, keys})
	}
	return logins, nil
}

// faced puts the pages before the registry; nil: there are none.
func faced(registry http.Handler, pages *ui.UI) http.Handler {
	if pages == nil {
		return registry
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := origin.RequestOf(r.Context())
		switch {
		case ui.Leads(r):
			request.Route = "/"
			http.Redirect(w, r, ui.Root, http.StatusSeeOther)
		case ui.Has(r):
			request.Route = ui.Root
			pages.ServeHTTP(w, r)
		default:
			registry.ServeHTTP(w, r)
		}
	})
}
