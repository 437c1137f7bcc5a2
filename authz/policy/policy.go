package policy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2"

	"github.com/weir-registry/weir/authz"
)

// Options are what a Policy is made of.
type Options struct {
	// Global are the rules for all repositories, and for what is about none.
	Global Rules
	// Repositories are rules for some: the most specific one that matches holds.
	Repositories []Repository
	// Private says that nobody but this machine can connect, and that nothing tells
	// people apart: then, without rules, this machine may write.
	Private bool
	// Reserved, if it is not "", is the first component of names that a push must not
	// take by the way: it needs a rule that names them, or one for repositories whose
	// pattern begins with it.
	Reserved string
	// Webhooks are those that may be asked, by name; Webhook is the name of the one
	// that is asked for everything, "" = none.
	Webhooks map[string]authz.Authorizer
	Webhook  string
	// Log is told of rules that fail, at warn; nil: nobody is.
	Log *slog.Logger
	// Decided is told of every decision, from many goroutines; nil: nobody is.
	Decided func(Decision)
}

// Decision is an answer.
type Decision struct {
	Allowed bool
	// By is the rule, default or webhook that denied; of what is allowed all that
	// agreed, with ", " between them: "authz.policy.allow[2], webhook opa".
	By string
	// Cause is why a rule or webhook could not say; nil: it could.
	Cause error
}

// Policy decides by rules, and then by webhooks. It may be used by many at a time.
type Policy struct {
	global       *scope
	repositories []*scope
	reserved     string
	remote       bool
	log          *slog.Logger
	decided      func(Decision)
	kept         *lru.Cache[question, Decision]
	found        *lru.Cache[string, *scope] // by repository
}

// scope is what holds for some repositories.
type scope struct {
	pattern string
	match   func(repository string) bool
	rules   *named // nil: none
	// reads is what the rules here and the global ones look at.
	reads   reads
	webhook string
	asked   authz.Authorizer // the webhook; nil: none
}

var (
	_ authz.Authorizer = (*Policy)(nil)
	_ authz.Uniform    = (*Policy)(nil)
	_ authz.Remote     = (*Policy)(nil)
)

// New makes a Policy. Its error is a webhook that is named and not there.
func New(o Options) (*Policy, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Decided == nil {
		o.Decided = func(Decision) {}
	}
	kept, err := lru.New[question, Decision](mostKept)
	if err != nil {
		return nil, err
	}
	found, err := lru.New[string, *scope](mostFound)
	if err != nil {
		return nil, err
	}
	p := &Policy{reserved: o.Reserved, log: o.Log, decided: o.Decided, kept: kept, found: found}
	webhook := func(name string) (string, authz.Authorizer, error) {
		if name == "" || name == None {
			return "", nil, nil
		}
		asked, ok := o.Webhooks[name]
		if !ok {
			return "", nil, fmt.Errorf("there is no webhook %q", name)
		}
		p.remote = true
		return "webhook " + name, asked, nil
	}
	p.global = &scope{rules: name(o.Global, "authz.policy", global(o.Global, o.Private)), reads: o.Global.reads()}
	if p.global.webhook, p.global.asked, err = webhook(o.Webhook); err != nil {
		return nil, err
	}
	for _, r := range bySpecificity(o.Repositories) {
		s := &scope{pattern: r.Pattern, match: r.Match, reads: p.global.reads | r.Rules.reads(), webhook: p.global.webhook, asked: p.global.asked}
		if !r.Rules.empty() {
			s.rules = name(r.Rules, "repositories["+r.Pattern+"].policy", always(r.Rules.Default != Deny))
		}
		if r.Webhook != "" {
			if s.webhook, s.asked, err = webhook(r.Webhook); err != nil {
				return nil, err
			}
		}
		p.repositories = append(p.repositories, s)
	}
	return p, nil
}

// scope is what holds for a repository; "" is none. It is remembered: to ask a thousand
// patterns takes longer than all else of a request (BenchmarkScopes of package config).
func (p *Policy) scope(repository string) *scope {
	if repository == "" || len(p.repositories) == 0 {
		return p.global
	}
	s, ok := p.found.Get(repository)
	if ok {
		return s
	}
	s = p.global
	if i := slices.IndexFunc(p.repositories, func(s *scope) bool { return s.match(repository) }); i >= 0 {
		s = p.repositories[i]
	}
	if len(repository) <= longestKept {
		p.found.Add(repository, s)
	}
	return s
}

// Uniform implements authz.Uniform: no rule for the repository looks at what it holds,
// and no webhook is asked, which may. Whatever has a rule looks at the repository.
func (p *Policy) Uniform(repository string) bool {
	if repository == "" && (len(p.repositories) > 0 || len(p.global.rules.Allow)+len(p.global.rules.Deny) > 0) {
		return false
	}
	s := p.scope(repository)
	return s.asked == nil && s.reads&readsContent == 0
}

// Remote implements authz.Remote: there are webhooks.
func (p *Policy) Remote() bool { return p.remote }

// Authorize implements authz.Authorizer. A Denial's Cause is a webhook's: a rule that
// fails is logged here, and has decided.
func (p *Policy) Authorize(ctx context.Context, who authz.Identity, what authz.Access) error {
	d := p.decide(ctx, who, what)
	if d.Allowed {
		return nil
	}
	return &authz.Denial{By: d.By, Cause: d.failure}
}

// Decide says who may do what, and why.
func (p *Policy) Decide(ctx context.Context, who authz.Identity, what authz.Access) Decision {
	return p.decide(ctx, who, what).Decision
}

// decision is a Decision, and what of its Cause is still to be logged.
type decision struct {
	Decision
	failure error
}

func (p *Policy) decide(ctx context.Context, who authz.Identity, what authz.Access) decision {
	if what.Time.IsZero() {
		what.Time = time.Now()
	}
	s := p.scope(what.Repository)
	d := decision{Decision: p.byRules(ctx, s, who, what)}
	if d.Allowed && s.asked != nil {
		if err := s.asked.Authorize(ctx, who, what); err != nil {
			d = refusedBy(s.webhook, err)
		} else {
			d.By += ", " + s.webhook
		}
	}
	p.decided(d.Decision)
	return d
}

// refusedBy is the decision that is an Authorizer's error.
func refusedBy(name string, err error) decision {
	d := decision{Decision: Decision{By: name, Cause: err}, failure: err}
	if denial, ok := errors.AsType[*authz.Denial](err); ok {
		d.Cause, d.failure = denial.Cause, denial.Cause
	}
	return d
}

// byRules is the decision without webhooks.
func (p *Policy) byRules(ctx context.Context, s *scope, who authz.Identity, what authz.Access) Decision {
	q, keep := ask(s.reads, who, what)
	if keep {
		if d, ok := p.kept.Get(q); ok {
			return d
		}
	}
	d, whole := p.evaluate(ctx, s, who, what)
	if keep && whole {
		p.kept.Add(q, d)
	}
	return d
}

// evaluate asks the rules for all repositories, then those for this one. whole says
// that none of them failed.
func (p *Policy) evaluate(ctx context.Context, s *scope, who authz.Identity, what authz.Access) (d Decision, whole bool) {
	vars, err := seen(who, what)
	if err != nil { // of maps that are no maps
		return Decision{By: p.global.rules.byDefault, Cause: err}, false
	}
	a := &asking{vars: vars}
	failed := func(rule string, err error) {
		if ctx.Err() != nil {
			return // nobody waits for the answer any more
		}
		p.log.Warn("rule failed", "rule", rule, "error", err.Error(), "identity", who.ID,
			"action", string(what.Action), "repository", what.Repository)
	}
	v := p.global.rules.decide(ctx, who, what, a, failed)
	d, whole = Decision{v.allowed, v.by, v.cause}, v.whole
	if v.allowed && s != p.global && s.rules != nil {
		v = s.rules.decide(ctx, who, what, a, failed)
		if whole = whole && v.whole; v.allowed {
			d.By += ", " + v.by
		} else {
			d = Decision{By: v.by, Cause: v.cause}
		}
	}
	if d.Allowed && p.isReserved(what) {
		by, named := p.names(ctx, s, a, func(rule string, err error) {
			failed(rule, err)
			whole = false
		})
		if !named {
			return Decision{By: byReserved}, whole
		}
		if !strings.Contains(", "+d.By+", ", ", "+by+", ") {
			d.By += ", " + by
		}
	}
	return d, whole
}
