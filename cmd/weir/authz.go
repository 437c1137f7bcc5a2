package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/authz/policy"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/origin/serve"
)

// methods are the ways to say who one is, in the order in which they are tried.
type methods struct {
	chain authz.Chain
	// tokens answers /token, and challenge how one is asked for; nil: there are none.
	tokens http.Handler
	// challenges give the WWW-Authenticate headers that lead to the methods: where weir
	// is found, what for, and whether a token was shown that does not cover it.
	challenges []func(base string, needs authz.Scope, lacking bool) string
	// login has nobodies asked who they are as soon as they ask whether this is a
	// registry: clients log in only where they are.
	login bool
}

// rights are who may do what, as a configuration says.
type rights struct {
	methods
	policy *policy.Policy
	peers  *authz.Peers
	cross  *authz.CrossSite
	// anonymous says that nobody in particular may pull something, open that they may
	// push from this machine.
	anonymous, open bool

	metrics *observe.Metrics
	log     *slog.Logger
}

// newRights makes what c says.
func newRights(c *config.Config, known methods, metrics *observe.Metrics, logs logs) (*rights, error) {
	log := logs.room("authz")
	var external *url.URL
	if !c.Server.ExternalURL.IsZero() {
		external = &c.Server.ExternalURL.URL
	}
	var trusted []netip.Prefix
	for _, n := range c.Server.TrustedProxies {
		trusted = append(trusted, n.Prefix)
	}
	// Without a name for anybody, and as long as nobody else can connect, this machine
	// alone writes.
	open := private(c.Server) && external == nil && len(trusted) == 0 && len(known.chain) == 0
	p, err := policy.New(policy.Options{
		Private: open,
		Log:     log,
	})
	if err != nil {
		return nil, fmt.Errorf("authz: %w", err)
	}
	local := authz.Identity{Method: authz.MethodNone, Client: authz.Client{IP: netip.IPv6Loopback(), Local: true}}
	push := authz.Access{Action: authz.Push, Operation: "start-upload", Repository: "weir/weir"}
	return &rights{
		methods: known,
		policy:  p,
		peers:   authz.NewPeers(authz.PeersOptions{Trusted: trusted, External: external, Private: private(c.Server)}),
		cross:   authz.NewCrossSite(external),

		anonymous: p.Possible(authz.Identity{Method: authz.MethodNone}, "", ""),
		open:      open && p.Decide(context.Background(), local, push).Allowed,
		metrics:   metrics,
		log:       log,
	}, nil
}

// private reports whether nobody but this machine can connect to the public side.
func private(c config.Server) bool {
	for _, a := range c.Listen {
		if a.Network != "unix" && !authz.Loopback(a.Addr) {
			return false
		}
	}
	return true
}

// guard puts who may do what before a registry. named says which repositories take a
// push only by a rule that names them.
func (a *rights) guard(r origin.Registry, locate guard.Locator, named func(origin.Repo) bool) *guard.Guard {
	return guard.New(r, a.policy, guard.Options{
		Locate:    locate,
		Named:     named,
		Challenge: a.challenge,
		Refusal:   a.refusal,
		Decided:   a.metrics.PolicyDecision,
		Log:       a.log,
	})
}

// identify finds who asks next's questions, and refuses those of pages of other sites.
func (a *rights) identify(next http.Handler) http.Handler {
	known := guard.Identify(next, guard.IdentifyOptions{
		Authenticator: a.chain,
		Client:        a.peers.Client,
		Challenge:     func(ctx context.Context) []string { return a.challenge(ctx, nil, false) },
		Fail:          serve.Error,
		Attempted:     a.metrics.AuthAttempt,
		Log:           a.log,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := origin.RequestOf(r.Context())
		request.Base = a.peers.BaseURL(r).String()
		switch {
		case a.cross.Check(r) != nil:
			serve.Error(w, r, origin.Errorf(origin.ErrDenied, "changes from a page of another site are not taken"))
		case a.tokens != nil && r.URL.Path == tokenPath:
			request.Route = tokenPath
			a.tokens.ServeHTTP(w, r)
		default:
			known.ServeHTTP(w, r)
		}
	})
}

// tokenPath is where tokens are given.
const tokenPath = "/token"

// challenge gives the WWW-Authenticate headers of a 401. With none nobody is asked.
func (a *rights) challenge(ctx context.Context, needs authz.Scope, lacking bool) []string {
	var list []string
	for _, c := range a.challenges {
		list = append(list, c(origin.RequestOf(ctx).Base, needs, lacking))
	}
	return list
}

// base is what GET /v2/ answers with: nil to those who are known, and to all where all
// may pull, unless they could log in.
func (a *rights) base(ctx context.Context) error {
	who := guard.Who(ctx)
	if who.Authenticated() || who.Scope != nil || a.anonymous && !a.login {
		return nil
	}
	request := origin.RequestOf(ctx)
	if request.Challenge = a.challenge(ctx, nil, false); len(request.Challenge) == 0 {
		return origin.ErrDenied
	}
	return origin.ErrUnauthorized
}

// refusal says what may be done about a denial. Only a default is one that nobody may
// have meant.
func (a *rights) refusal(who authz.Identity, what authz.Access, err error) (message, remedy string) {
	d, ok := err.(*authz.Denial)
	if !ok || d.By != "authz.policy.default" || what.Action != authz.Push && what.Action != authz.Delete {
		return "", ""
	}
	if !who.Authenticated() && len(a.chain) == 0 {
		message = "changes are only taken from the machine that weir runs on, and only while it listens on loopback addresses alone"
	}
	somebody := "identity.authenticated"
	if who.Authenticated() {
		somebody = fmt.Sprintf("identity.id == %q", who.ID)
	}
	return message, fmt.Sprintf(`authz: {policy: {allow: ["request.action in ['pull', 'list']", '%s && request.action == "%s"']}}`, somebody, what.Action)
}

// mayPull reports whether somebody might be allowed to pull something of an upstream.
func (a *rights) mayPull(who authz.Identity, upstream string) bool {
	return a.policy.Possible(who, upstream, config.PathOf(upstream))
}

// newMethods makes the ways to say who one is that c has.
func newMethods(*config.Config, logs) (methods, error) { return methods{}, nil }
