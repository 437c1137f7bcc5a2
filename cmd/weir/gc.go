package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/origin/lifetime"
)

// gcArgs are what a collection is told.
type gcArgs struct {
	DryRun bool `json:"dry_run"`
}

func newGC() *cobra.Command {
	var args gcArgs
	cmd := &cobra.Command{
		Use:   "gc [--dry-run] [--json] --config FILE...",
		Short: "Remove what nobody needs",
		Long: `Removes blobs that no manifest names and that nobody has pushed or asked for
within origin.gc.grace, uploads that expired, and referrers of manifests that
were deleted. A running weir does the same each origin.gc.interval.

It is safe beside a running weir of the same configuration, and pulls and pushes
go on meanwhile: that weir then does the work. Where something cannot be read,
its repository keeps all that it has, and the exit code is 1.`,
		Example: `  weir gc --config /etc/weir/weir.yaml --dry-run
  weir gc --config base.yaml site.yaml --json`,
	}
	cmd.Flags().BoolVar(&args.DryRun, "dry-run", false, "remove nothing, and say what would go")
	return reportCommand(cmd, &args, func(r lifetime.Report) bool { return r.Kept != nil })
}

// collect is the job of that command.
func (a *app) collect() job {
	if a.garbage == nil {
		return notOurs("removes what nobody needs")
	}
	return runJobOf("looking through all repositories", func(ctx context.Context, args gcArgs) (lifetime.Report, error) {
		return a.garbage.Run(ctx, args.DryRun)
	})
}

// collectNow collects garbage as often as the configuration says.
func (a *app) collectNow(ctx context.Context) {
	if a.garbage == nil {
		return
	}
	run := func(ctx context.Context) (lifetime.Report, error) { return a.garbage.Run(ctx, false) }
	logged(ctx, a, run, "garbage collected", "garbage not collected, or not all of it",
		func(r lifetime.Report) []any { return []any{"blobs", r.Freed, "bytes", r.FreedBytes} })
}
