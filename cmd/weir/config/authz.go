package config

import (
	"fmt"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/policy"
)

// Authz says who may do what, and how they show who they are.
type Authz struct {
	// Realm is what clients are told that they log in to: the realm of passwords, and
	// the service of tokens.
	Realm string `yaml:"realm"`
	Basic Basic  `yaml:"basic"`
	// OIDC are the providers whose tokens count.
	OIDC  []OIDC `yaml:"oidc"`
	Token Token  `yaml:"token"`
	// Policy holds for all repositories.
	Policy Policy `yaml:"policy"`
	// Webhooks are those that may be asked.
	Webhooks []Webhook `yaml:"webhooks"`
	// Webhook is the name of the one that every request asks; "": none.
	Webhook string `yaml:"webhook"`
}

func (v *validator) authz(c *Config) {
	v.realm(c.Authz.Realm)
	v.basic(&c.Authz.Basic)
	v.oidc(c.Authz.OIDC)
	v.token(&c.Authz.Token)
	v.webhooks(c)
	v.repositories(c)
	v.public(c)
}

// public has it said of upstreams that weir is known to whether anybody may see what
// they show it.
func (v *validator) public(c *Config) {
	// Whom a webhook would let in nobody can know: it is not counted on.
	scopes := c.Scopes()
	for i := range scopes {
		scopes[i].Webhook = ""
	}
	p, err := policy.New(policy.Options{Global: c.Authz.Policy.Rules(), Repositories: scopes})
	if err != nil {
		v.fail("authz.policy", "%v", err)
		return
	}
	nobody := authz.Identity{Method: authz.MethodNone}
	for i, u := range c.Mirror.Upstreams {
		if !u.NeedsCredentials() || u.Public || !p.Possible(nobody, u.Name, PathOf(u.Name)+"/") {
			continue
		}
		for j, e := range u.Endpoints {
			if e.hasCredentials() {
				v.fail(fmt.Sprintf("mirror.upstreams[%d].endpoints[%d]", i, j), "has credentials, and weir lets anyone pull without any: what these can read at %s, "+
					`everyone who reaches weir could read. Say "public: true" beside the upstream's name if that is meant, or deny it: a rule such as "!identity.authenticated"`, u.Name)
			}
		}
	}
}

// warnings are remarks on what is allowed and hardly meant.
func (a Authz) warnings() []string {
	var w []string
	for _, hook := range a.Webhooks {
		if hook.URL.Scheme == "http" && (hook.Username != "" || !hook.BearerToken.IsZero()) && !isLoopback(hook.URL.Hostname()) {
			w = append(w, "what webhook "+hook.Name+" is asked with travels unencrypted: its URL is http")
		}
	}
	return w
}

// realm examines what is quoted in a header, and is what tokens are for.
func (v *validator) realm(realm string) {
	const path, longest = "authz.realm", 255
	if realm == "" || len(realm) > longest {
		v.fail(path, "must have 1 to %d characters", longest)
	}
	for _, c := range []byte(realm) {
		if c < ' ' || 0x7f <= c || c == '"' || c == '\\' {
			v.fail(path, `holds a character that has no place in a header: ASCII without " and \ has`)
			return
		}
	}
}
