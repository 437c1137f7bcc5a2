package main

import (
	"context"
	"slices"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
)

// quotas gives the quota of each repository, in bytes; 0: it has none. nil: none has.
func quotas(c *config.Config) func(repo origin.Repo) int64 {
	if !slices.ContainsFunc(c.Repositories, func(r config.Repository) bool { return r.Quota > 0 }) {
		return nil
	}
	of := c.Repository()
	return func(repo origin.Repo) int64 {
		if r := of(repo); r != nil {
			return int64(r.Quota)
		}
		return 0
	}
}

// limited is the mirror, with the quotas of repositories before it if there are any.
func (a *app) limited(c *config.Config) origin.Registry {
	quota := quotas(c)
	if quota == nil || a.registry == nil {
		return a.mirror
	}
	return a.quota.With(a.mirror, lifetime.QuotaOptions{
		Quota: quota,
		Full: func(ctx context.Context, repo origin.Repo) (origin.Repo, error) {
			full, _, err := a.mirror.Locate(ctx, repo, true)
			return full, err
		},
		Grace:  c.Origin.GC.Grace.Std(),
		Shared: !a.sole,
	})
}
