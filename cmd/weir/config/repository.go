package config

import (
	"fmt"
	"slices"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/weir-registry/weir/authz/policy"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
)

// Repository is what holds for some repositories, on top of what holds for all.
type Repository struct {
	// Match is which. Of several that match a repository the most specific one holds:
	// the one with the most characters before its first wildcard, then the longest,
	// then the first.
	Match  origin.Glob `yaml:"match"`
	Policy Policy      `yaml:"policy"`
	// Webhook is asked in place of authz.webhook; "": that one is; none: none is.
	Webhook string `yaml:"webhook"`
	// ImmutableTags are patterns of whole tags whose first push wins, besides those of
	// origin.immutable_tags.
	ImmutableTags []Regexp `yaml:"immutable_tags"`
	// Redirect lets clients fetch blobs from the store itself, where that is on at all.
	Redirect bool `yaml:"redirect"`
	// Retention says which tags stay.
	Retention KeepRules `yaml:"retention"`
	// Quota is how many bytes of different blobs a repository may name; 0: any number.
	Quota Size `yaml:"quota"`
}

// setDefaults makes r an entry that says nothing.
func (r *Repository) setDefaults() { r.Redirect = true }

// KeepRules say which tags stay: those that any of them keeps. Where there are none, all
// do.
type KeepRules struct {
	Keep []lifetime.Rule `yaml:"keep"`
}

// Scopes are what the policy holds for some repositories.
func (c *Config) Scopes() []policy.Repository {
	var list []policy.Repository
	for _, r := range c.Repositories {
		list = append(list, policy.Repository{
			Pattern: r.Match.String(),
			Match: func(name string) bool {
				repo, err := origin.ParseRepo(name)
				return err == nil && r.Match.Match(repo)
			},
			Rules:   r.Policy.Rules(),
			Webhook: r.Webhook,
		})
	}
	return list
}

// Redirects gives a function that reports whether clients of a repository may be sent to the
// store: as far as the repository has a say in it.
func (c *Config) Redirects() func(repo origin.Repo) bool {
	of := c.Repository()
	return func(repo origin.Repo) bool {
		most := of(repo)
		return most == nil || most.Redirect
	}
}

// Immutable gives a function that reports whether a tag is immutable by what its repository
// has to say; nil: none has.
func (c *Config) Immutable() func(repo origin.Repo, tag string) bool {
	if !slices.ContainsFunc(c.Repositories, func(r Repository) bool { return len(r.ImmutableTags) > 0 }) {
		return nil
	}
	of := c.Repository()
	return func(repo origin.Repo, tag string) bool {
		most := of(repo)
		return most != nil && slices.ContainsFunc(most.ImmutableTags, func(re Regexp) bool { return re.MatchString(tag) })
	}
}

// remembered is for how many repositories it is remembered what holds for them: to look
// through 500 entries takes longer than the rest of a request (BenchmarkRepository).
const remembered = 4096

// Repository gives a function that finds what holds for a repository: the most specific
// one that matches; nil: none does.
func (c *Config) Repository() func(repo origin.Repo) *Repository {
	var list []*Repository
	for i := range c.Repositories {
		list = append(list, &c.Repositories[i])
	}
	slices.SortStableFunc(list, func(a, b *Repository) int { return policy.Specificity(a.Match.String(), b.Match.String()) })
	find := func(repo origin.Repo) *Repository {
		for _, r := range list {
			if r.Match.Match(repo) {
				return r
			}
		}
		return nil
	}
	found, _ := lru.New[origin.Repo, *Repository](remembered) // fails only for a size below one
	return func(repo origin.Repo) *Repository {
		r, ok := found.Get(repo)
		if !ok {
			r = find(repo)
			found.Add(repo, r)
		}
		return r
	}
}

func (v *validator) repositories(c *Config) {
	for i, r := range c.Repositories {
		if r.Match.String() == "" {
			v.fail(fmt.Sprintf("repositories[%d]", i), `has no match: write a pattern such as "team/**"`)
		}
		if c.Origin.URL.IsZero() {
			continue
		}
		for key, set := range map[string]bool{
			"immutable_tags": len(r.ImmutableTags) > 0, "quota": r.Quota > 0, "retention": len(r.Retention.Keep) > 0,
		} {
			if set {
				v.fail(fmt.Sprintf("repositories[%d].%s", i, key), "is set, and so is origin.url: the registry at %s decides that, not weir", c.Origin.URL)
			}
		}
	}
}
