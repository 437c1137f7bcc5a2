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
	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/authz/policy"
	"github.com/weir-registry/weir/authz/token"
	"github.com/weir-registry/weir/authz/webhook"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/origin/serve"
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
	endpoint  http.Handler    // of tokens; nil: there are none
	passwords *basic.Basic    // nil: nobody has one
	logins    []providerLogin // to the UI

	login     bool // people can log in: nobodies are asked who they are at once
	named     bool // somebody may be known, by whichever method
	anonymous bool // nobody in particular may pull something
	open      bool // anyone on this machine may push
	builtin   bool // what no rule denies, nothing that is configured decides

	locate  guard.Locator // set by guard
	marks   []byte        // the key of guards
	metrics *observe.Metrics
	tracing *observe.Tracing // nil: there is none
	log     *slog.Logger
}

// newRights makes what c says. It asks nobody over the network: weir starts while every
// provider and webhook is down. The app releases it.
func (app *app) newRights(c *config.Config, logs logs) (_ *rights, err error) {
	a := &rights{peers: newPeers(c.Server), marks: app.marks, metrics: app.metrics, tracing: app.tracing, log: logs.room("authz")}
	var external *url.URL
	if !c.Server.ExternalURL.IsZero() {
		external = &c.Server.ExternalURL.URL
	}
	a.site = authz.NewCrossSite(external)
	a.challenge = newChallenge(c, func(ctx context.Context) string {
		if base := origin.RequestOf(ctx).Base; base != nil {
			return base()
		}
		return ""
	})
	issuer, passwords, err := a.methods(c, app)
	if err != nil {
		return nil, err
	}
	hooks, err := newWebhooks(c.Authz.Webhooks, network("webhook"), a.log, func(name string, r webhook.Result, took time.Duration) {
		app.metrics.WebhookRequest(name, string(r), took)
	})
	if err != nil {
		return nil, err
	}
	app.closers = append(app.closers, func() error { hooks.close(); return nil })
	if a.policy, err = newPolicy(c, alone(c), hooks, a.log, nil); err != nil {
		return nil, fmt.Errorf("authz: %w", err)
	}
	a.anonymous = a.policy.Possible(authz.Identity{Method: authz.MethodNone}, "", "")
	a.open = alone(c) && a.pushes()
	a.builtin = c.Authz.Policy.Default == "" && len(c.Authz.Policy.Allow) == 0
	if issuer != nil {
		a.endpoint = token.NewEndpoint(token.Options{
			Issuer: issuer, Who: a.known, Client: a.peers.Client, Rights: a.policy, Stamper: passwords,
			Locate: locateToken(func(ctx context.Context, repo origin.Repo, write bool) (origin.Repo, string, error) {
				return a.locate(ctx, repo, write)
			}),
			Identified: a.identified,
			Fail:       failToken(a.challenge, a.log),
		})
	}
	return a, nil
}

// methods makes the ways to say who one is, in the order in which they are tried.
func (a *rights) methods(c *config.Config, app *app) (*token.Issuer, token.Stamper, error) {
	if a.named = identifies(c); !a.named {
		return nil, nil, nil
	}
	if app.secured != nil && app.secured.Identifies() {
		a.known = append(a.known, app.secured)
	}
	issuer, err := newTokens(c.Authz, app.records, a.log)
	if err != nil {
		return nil, nil, err
	}
	if issuer != nil {
		a.known = append(a.known, issuer)
		a.login = loggedIn(c)
	}
	if len(c.Authz.OIDC) > 0 {
		// The keys of a provider that is away are known to those who had them.
		providers, release, err := app.providers.take(c.Authz.OIDC, func() (*tokens, func(), error) {
			t, err := newOIDC(c.Authz.OIDC, network("issuer"), a.log)
			if err != nil {
				return nil, nil, err
			}
			return t, t.Close, nil
		})
		if err != nil {
			return nil, nil, err
		}
		app.closers = append(app.closers, func() error { release(); return nil })
		a.known = append(a.known, providers)
	}
	if c.UI.Enabled {
		if a.logins, err = newLogins(c.Authz.OIDC, network("issuer"), a.log); err != nil {
			return nil, nil, err
		}
		for _, l := range a.logins {
			app.closers = append(app.closers, func() error { l.Close(); return nil })
		}
	}
	passwords, err := newBasic(c.Authz.Basic, a.peers.Client, a.log)
	if err != nil {
		return nil, nil, err
	}
	if passwords == nil {
		return issuer, nil, nil
	}
	a.known, a.passwords = append(a.known, passwords), passwords
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

// mightPush reports whether whoever asks may be about to push to a repository: a manifest,
// or, where that is the zero Ref, a blob. Whoever shows no credentials yet may show some
// once a push is refused: containerd and oras ask so first.
func (a *rights) mightPush(ctx context.Context, g *guard.Guard, repo origin.Repo, manifest origin.Ref) bool {
	if a.named && guard.Who(ctx).Method == authz.MethodNone {
		return true
	}
	what := authz.Access{Action: authz.Push, Operation: "start-upload"}
	if manifest != (origin.Ref{}) {
		what.Operation, what.Tag, what.Digest = "put-manifest", manifest.Tag(), manifest.Digest().String()
	}
	return g.Can(ctx, repo, what)
}

// guard puts who may do what before a registry, and before the places where its blobs may
// be fetched instead; nil: there are none.
func (a *rights) guard(r origin.Registry, locate guard.Locator, places origin.Redirector) *guard.Guard {
	a.locate = locate
	return a.newGuard(r, guard.Options{Locate: locate, Redirects: places})
}

// around puts who may do what before another view of the registry, whose names locate
// finds.
func (a *rights) around(r origin.Registry, locate guard.Locator) *guard.Guard {
	return a.newGuard(r, guard.Options{Locate: locate})
}

func (a *rights) newGuard(r origin.Registry, o guard.Options) *guard.Guard {
	o.Challenge, o.Refusal, o.Decided, o.Key, o.Log = a.challenges, a.refusal, a.metrics.PolicyDecision, a.marks, a.log
	var decides authz.Authorizer = a.policy
	if a.tracing != nil {
		decides = tracedPolicy{a.policy}
	}
	return guard.New(r, decides, o)
}

// identify finds out who asks for what next has, and refuses what pages of other sites
// have a browser change. It also answers where tokens are given.
func (a *rights) identify(next http.Handler) http.Handler {
	var known authz.Authenticator = a.known
	if a.tracing != nil {
		known = tracedAuthenticator{known}
	}
	next = guard.Identify(next, guard.IdentifyOptions{
		Authenticator: known,
		Client:        a.peers.Client,
		Challenge:     func(ctx context.Context) []string { return a.challenges(ctx, nil, false) },
		Fail:          serve.Error,
		Attempted:     a.metrics.AuthAttempt,
		Log:           a.log,
	})
	next = sameSite(next, a.site)
	endpoint := a.endpoint
	if endpoint != nil {
		endpoint = sameSite(endpoint, a.site)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := origin.RequestOf(r.Context())
		request.Base = func() string { return a.peers.BaseURL(r).String() }
		if endpoint != nil && r.URL.Path == tokenPath {
			request.Route = tokenPath
			endpoint.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// identified takes down who asks for a token.
func (a *rights) identified(r *http.Request, who authz.Identity, err error) {
	if err == nil {
		origin.RequestOf(r.Context()).Principal = who
	}
	if method, result := guard.Attempt(r, who, err); result != "" {
		a.metrics.AuthAttempt(method, result)
	}
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
	return a.policy.Possible(who, upstream, config.PathOf(upstream)+"/")
}

// refusal says what may be done about a denial. Only a default is one that perhaps
// nobody meant.
func (a *rights) refusal(who authz.Identity, what authz.Access, err error) (message, remedy string) {
	d, ok := errors.AsType[*authz.Denial](err)
	if !ok || d.By != "authz.policy.default" || what.Action != authz.Push && what.Action != authz.Delete {
		return "", ""
	}
	somebody := "identity.authenticated"
	if who.Authenticated() {
		somebody = fmt.Sprintf("identity.id == %q", who.ID)
	}
	rule := fmt.Sprintf("%s && request.action == %q", somebody, what.Action)
	if a.builtin {
		// With the first rule that allows something, all else is denied.
		rule = `policy: {allow: ["request.action in ['pull', 'list']", '` + rule + `']}`
	} else {
		rule = "authz.policy.allow: - " + rule // beside those that are there
	}
	switch {
	case a.named && a.builtin:
		return "", "authz: {" + rule + "}"
	case a.named:
		return "", rule
	case a.builtin:
		return "changes are only taken from the machine that weir runs on, and only while it listens on loopback addresses alone",
			"authz: {" + htpasswd + ", " + rule + "}"
	}
	return "nobody may do this here, and nobody can log in; the log of weir says what to add to its configuration",
		"authz: {" + htpasswd + "}, " + rule
}

// htpasswd is the simplest way to have somebody: a file of lines of weir hash-password.
const htpasswd = "basic: {htpasswd: /etc/weir/htpasswd}"
