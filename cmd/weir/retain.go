package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
)

// retainArgs are what a run of the rules is told.
type retainArgs struct {
	DryRun bool `json:"dry_run"`
	Force  bool `json:"force"`
}

func newRetain() *cobra.Command {
	var args retainArgs
	cmd := &cobra.Command{
		Use:   "retain [--dry-run] [--force] [--json] --config FILE...",
		Short: "Remove tags that no rule keeps",
		Long: `Removes the tags that none of repositories[].retention.keep keeps, and the
manifests that nothing needs then; their blobs go with the next weir gc. A
repository without rules is left alone. A running weir does the same each
origin.retention.interval.

It is safe beside a running weir of the same configuration: that weir then does
the work. A repository that cannot be read, of which a rule fails, or that would
lose more than 20 % of its tags (unless --force), keeps all that it has, and the
exit code is 1.`,
		Example: `  weir retain --config /etc/weir/weir.yaml --dry-run
  weir retain --config base.yaml site.yaml --force --json`,
	}
	cmd.Flags().BoolVar(&args.DryRun, "dry-run", false, "remove nothing, and say what would go")
	cmd.Flags().BoolVar(&args.Force, "force", false, "remove more than 20 % of a repository's tags, too")
	return reportCommand(cmd, &args, func(r lifetime.RetainReport) bool { return r.Kept != nil })
}

// newRetainer makes what applies the rules of repositories.
func (a *app) newRetainer(c *config.Config) *lifetime.Retainer {
	of := c.Repository()
	return a.kept.retainer.With(lifetime.RetainOptions{
		Rules: func(repo origin.Repo) (string, []lifetime.Rule) {
			r := of(repo)
			if r == nil {
				return "", nil
			}
			return fmt.Sprintf("repositories[%s].retention.keep", r.Match), r.Retention.Keep
		},
		Pulls:  a.pulls,
		Grace:  c.Origin.GC.Grace.Std(),
		Shared: !a.sole,
	})
}

// retain is the job of that command.
func (a *app) retain() job {
	if a.retainer == nil {
		return notOurs("keeps its tags")
	}
	return runJobOf("looking through all repositories that have rules", func(ctx context.Context, args retainArgs) (lifetime.RetainReport, error) {
		return a.retainer.Run(ctx, args.DryRun, args.Force)
	})
}

// retainNow applies the rules as often as the configuration says.
func (a *app) retainNow(ctx context.Context) {
	if a.retainer == nil {
		return
	}
	run := func(ctx context.Context) (lifetime.RetainReport, error) { return a.retainer.Run(ctx, false, false) }
	logged(ctx, a, run, "rules of retention applied", "rules of retention not applied, or not all of them",
		func(r lifetime.RetainReport) []any { return []any{"tags", len(r.Deleted)} })
}

// keepPulls writes down at times what was pulled, until ctx ends.
func (k *kept) keepPulls(ctx context.Context) {
	if k.pulls == nil {
		return
	}
	k.pulls.Keep(ctx, func(err error) { k.log.Error("pulls not written down", "error", err) })
}
