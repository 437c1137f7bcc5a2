package config_test

import (
	"fmt"
	"testing"

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
