package config_test

import (
	"fmt"
	"testing"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/policy"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
)

// BenchmarkRepository is what it takes to find which of 500 entries holds for a repository.
func BenchmarkRepository(b *testing.B) {
	c := &config.Config{Repositories: make([]config.Repository, 500)}
	for i := range c.Repositories {
		if err := c.Repositories[i].Match.UnmarshalText(fmt.Appendf(nil, "team%d/**", i)); err != nil {
			b.Fatal(err)
		}
	}
	of := c.Repository()
	repo, err := origin.ParseRepo("docker.io/library/nginx")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		of(repo)
	}
}

// BenchmarkScopes is what a decision takes where 1,000 entries have rules of their own.
func BenchmarkScopes(b *testing.B) {
	c := &config.Config{Repositories: make([]config.Repository, 1000)}
	for i := range c.Repositories {
		if err := c.Repositories[i].Match.UnmarshalText(fmt.Appendf(nil, "team%d/**", i)); err != nil {
			b.Fatal(err)
		}
	}
	p, err := policy.New(policy.Options{Repositories: c.Scopes()})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := p.Authorize(b.Context(), authz.Identity{}, authz.Access{Action: authz.Pull, Repository: "docker.io/library/nginx"}); err != nil {
			b.Fatal(err)
		}
	}
}
