package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/store"
)

// scrubArgs are what a run is told.
type scrubArgs struct {
	Repair bool `json:"repair"`
}

func newScrub() *cobra.Command {
	var args scrubArgs
	cmd := &cobra.Command{
		Use:   "scrub [--repair] [--json] --config FILE...",
		Short: "Read everything again, and quarantine what is corrupt",
		Long: `Reads all that is stored, at origin.scrub.rate, and compares it with its
digests. A corrupt blob is quarantined: it is unknown until it is pushed again,
or, with --repair, fetched anew from where it is mirrored; so are manifests.
Records that can be derived from others are written anew. A running weir does the
same each origin.scrub.interval, and does not fetch.

It is safe beside a running weir of the same configuration: that weir then does
the work. The exit code is 1 if anything corrupt was found and not repaired.`,
		Example: `  weir scrub --config /etc/weir/weir.yaml
  weir scrub --config base.yaml site.yaml --repair --json`,
	}
	cmd.Flags().BoolVar(&args.Repair, "repair", false, "fetch what is mirrored and corrupt anew")
	return reportCommand(cmd, &args, func(r lifetime.ScrubReport) bool { return r.Corrupt != nil })
}

// newScrubber makes what reads everything again.
func (a *app) newScrubber(c *config.Config) *lifetime.Scrubber {
	return a.kept.scrubber.With(lifetime.ScrubOptions{
		Rate:    int64(c.Origin.Scrub.Rate),
		Refetch: a.refetch,
		// The mirror is made after this.
		Restore: func(ctx context.Context, repo origin.Repo, d digest.Digest) error {
			return a.mirror.Restore(ctx, repo, d)
		},
		Remembered: func(ctx context.Context) iter.Seq2[origin.Remembered, error] { return a.mirror.Check(ctx) },
		Records:    a.records,
		Meter:      a.metrics,
		Log:        a.log,
	})
}

// stored is how long what has been fetched may take until it is stored.
const stored = time.Minute

// refetch fetches a mirrored blob that is not there, and waits until it is.
func (a *app) refetch(ctx context.Context, repo origin.Repo, d digest.Digest) error {
	b, err := a.mirror.Blob(ctx, repo, d, store.Range{})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, b.Body)
	if err := errors.Join(err, b.Body.Close()); err != nil {
		return err
	}
	// Storing goes on behind the answer.
	ctx, cancel := context.WithTimeoutCause(ctx, stored, fmt.Errorf("it was fetched, and is not stored after %v", stored))
	defer cancel()
	for {
		_, err := a.registry.Holds(ctx, d)
		if !origin.Unknown(err) {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// scrub is the job of that command.
func (a *app) scrub() job {
	if a.scrubber == nil {
		return notOurs("keeps the content")
	}
	return runJobOf("reading everything", func(ctx context.Context, args scrubArgs) (lifetime.ScrubReport, error) {
		return a.scrubber.Run(ctx, args.Repair, false)
	})
}

// scrubNow reads everything again as often as the configuration says.
func (a *app) scrubNow(ctx context.Context) {
	if a.scrubber == nil {
		return
	}
	run := func(ctx context.Context) (lifetime.ScrubReport, error) { return a.scrubber.Run(ctx, false, true) }
	logged(ctx, a, run, "content scrubbed", "content scrubbed, and not all of it is well",
		func(r lifetime.ScrubReport) []any {
			return []any{"objects", r.Checked, "corrupt", len(r.Corrupt), "mended", r.Mended}
		})
}
