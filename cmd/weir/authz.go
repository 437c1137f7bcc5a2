package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/authz/mtls"
	"github.com/weir-registry/weir/authz/policy"
	"github.com/weir-registry/weir/authz/token"
	"github.com/weir-registry/weir/authz/webhook"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
)

// tokenPath is where tokens are given.
const tokenPath = "/token"

// rights are who may do what, as a configuration says: who is known, and by what; what
// they may; and how they are asked who they are.
type rights struct {
	peers     *authz.Peers
	site      *authz.CrossSite
	known     authz.Chain
	policy    *policy.Policy
	challenge token.Challenge
	endpoint  http.Handler // of tokens; nil: there are none

	login     bool // people can log in: nobodies are asked who they are at once
	named     bool // somebody may be known, by whichever method
	anonymous bool // nobody in particular may pull something
	open      bool // anyone on this machine may push

	locate  guard.Locator // set by guard
	metrics *observe.Metrics
	log     *slog.Logger
	closers []func() error
}

// newRights makes what c says. It asks nobody over the network: weir starts while every
// provider and webhook is down. records keep the key for tokens.
func newRights(c *config.Config, secured *mtls.Server, records store.Records, metrics *observe.Metrics, logs logs) (_ *rights, err error) {
	a := &rights{peers: newPeers(c.Server), metrics: metrics, log: logs.room("authz")}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	var external *url.URL
	if !c.Server.ExternalURL.IsZero() {
		external = &c.Server.ExternalURL.URL
	}
	a.site = authz.NewCrossSite(external)
	a.challenge = newChallenge(c, func(ctx context.Context) string { return origin.RequestOf(ctx).Base })
	issuer, passwords, err := a.methods(c, secured, records)
	if err != nil {
		return nil, err
	}
	hooks, err := newWebhooks(c.Authz.Webhooks, a.log, func(name string, r webhook.Result, took time.Duration) {
		metrics.WebhookRequest(name, string(r), took)
	})
	if err != nil {
		return nil, err
	}
	a.closers = append(a.closers, func() error { hooks.close(); return nil })
	if a.policy, err = newPolicy(c, alone(c), hooks, a.log, nil); err != nil {
		return nil, fmt.Errorf("authz: %w", err)
	}
	a.anonymous = a.policy.Possible(authz.Identity{Method: authz.MethodNone}, "", "")
	a.open = alone(c) && a.pushes()
	if issuer != nil {
		a.endpoint = token.NewEndpoint(token.Options{
			Issuer: issuer, Who: a.known, Client: a.peers.Client, Rights: a.policy, Stamper: passwords,
			Locate: locateToken(func(ctx context.Context, repo origin.Repo, write bool) (origin.Repo, string, error) {
				return a.locate(ctx, repo, write)
			}),
			Fail: failToken(a.challenge),
		})
	}
	return a, nil
}

// methods makes the ways to say who one is, in the order in which they are tried.
func (a *rights) methods(c *config.Config, secured *mtls.Server, records store.Records) (*token.Issuer, token.Stamper, error) {
	if a.named = identifies(c); !a.named {
		return nil, nil, nil
	}
	if secured != nil && secured.Identifies() {
		a.known = append(a.known, secured)
	}
	issuer, err := newTokens(c.Authz, records, a.log)
	if err != nil {
		return nil, nil, err
	}
	if issuer != nil {
		a.known = append(a.known, issuer)
		a.login = loggedIn(c)
	}
	providers, err := newOIDC(c.Authz.OIDC, egress.Network{}, a.log)
	if err != nil {
		return nil, nil, err
	}
	if providers != nil {
		a.closers = append(a.closers, func() error { providers.Close(); return nil })
		a.known = append(a.known, providers)
	}
	passwords, err := newBasic(c.Authz.Basic, a.peers.Client, a.log)
	if err != nil {
		return nil, nil, err
	}
	if passwords == nil {
		return issuer, nil, nil
	}
	a.known = append(a.known, passwords)
	return issuer, passwords, nil
}

// loggedIn reports whether people can log in, so that a client should.
func loggedIn(c *config.Config) bool {
	return !c.Authz.Basic.IsZero() || len(c.Authz.OIDC) > 0 || !c.Authz.Token.Key.IsZero()
}

// identifies reports whether somebody may be known, by whichever method.
func identifies(c *config.Config) bool { return loggedIn(c) || c.Server.TLS.ClientCA != "" }

// alone reports whether nothing tells people apart, and nobody can connect from
// elsewhere, nor have a proxy connect: then this machine writes.
func alone(c *config.Config) bool {
	return private(c.Server) && c.Server.ExternalURL.IsZero() && len(c.Server.TrustedProxies) == 0 && !identifies(c)
}

// pushes reports whether the policy lets anyone on this machine push.
func (a *rights) pushes() bool {
	here := authz.Identity{Method: authz.MethodNone, Client: authz.Client{IP: netip.IPv6Loopback(), Local: true}}
	return a.policy.Decide(context.Background(), here, authz.Access{Action: authz.Push, Operation: "start-upload", Repository: "weir/weir"}).Allowed
}

// close ends what goes on for the sake of rights.
func (a *rights) close() error {
	var err error
	for _, c := range a.closers {
		err = errors.Join(err, c())
	}
	return err
}

// guard puts who may do what before a registry.
func (a *rights) guard(r origin.Registry, locate guard.Locator) *guard.Guard {
	a.locate = locate
	return guard.New(r, a.policy, guard.Options{
		Locate:    locate,
		Challenge: a.challenges,
		Refusal:   a.refusal,
		Decided:   a.metrics.PolicyDecision,
		Log:       a.log,
	})
}

// identify finds out who asks for what next has, and refuses what pages of other sites
// have a browser change. It also answers where tokens are given.
func (a *rights) identify(next http.Handler) http.Handler {
	next = guard.Identify(next, guard.IdentifyOptions{
		Authenticator: a.known,
		Client:        a.peers.Client,
		Challenge:     func(ctx context.Context) []string { return a.challenges(ctx, nil, false) },
		Fail:          serve.Error,
		Attempted:     a.metrics.AuthAttempt,
		Log:           a.log,
	})
	return sameSite(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := origin.RequestOf(r.Context())
		request.Base = a.peers.BaseURL(r).String()
		if a.endpoint != nil && r.URL.Path == tokenPath {
			request.Route = tokenPath
			a.endpoint.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	}), a.site)
}

// challenges are the WWW-Authenticate headers of a 401; with none nobody is asked: who
// they are can be said in no way, or by a certificate alone.
func (a *rights) challenges(ctx context.Context, needs authz.Scope, lacking bool) []string {
	if !a.named {
		return nil
	}
	return a.challenge.Headers(ctx, needs, lacking)
}

// base decides on GET /v2/, with which clients find out whether they have to log in.
// Credentials that were accepted are enough, whatever they are good for.
func (a *rights) base(ctx context.Context) error {
	who := guard.Who(ctx)
	if who.Authenticated() || who.Method == authz.MethodToken || a.anonymous && !a.login {
		return nil
	}
	request := origin.RequestOf(ctx)
	if request.Challenge = a.challenges(ctx, nil, false); request.Challenge == nil {
		return origin.ErrDenied
	}
	return origin.ErrUnauthorized
}

// mayPull reports whether somebody might be allowed to pull something of an upstream.
func (a *rights) mayPull(who authz.Identity, upstream string) bool {
	return a.policy.Possible(who, upstream, config.PathOf(upstream))
}

// refusal says what may be done about a denial. Only a default is one that perhaps
// nobody meant.
func (a *rights) refusal(who authz.Identity, what authz.Access, err error) (message, remedy string) {
	d, ok := errors.AsType[*authz.Denial](err)
	if !ok || d.By != "authz.policy.default" || what.Action != authz.Push && what.Action != authz.Delete {
		return "", ""
	}
	if !a.named {
		message = "changes are only taken from the machine that weir runs on, and only while it listens on loopback addresses alone"
	}
	somebody := "identity.authenticated"
	if who.Authenticated() {
		somebody = fmt.Sprintf("identity.id == %q", who.ID)
	}
	return message, fmt.Sprintf(`authz: {policy: {allow: ["request.action in ['pull', 'list']", '%s && request.action == "%s"']}}`, somebody, what.Action)
}
