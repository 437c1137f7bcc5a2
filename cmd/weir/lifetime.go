package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/origin/lifetime"
)

// What gc, retain and scrub have in common: a command that asks for a run and shows its
// report, the job that does the run, and the same run at each interval.

// reportCommand lets cmd, which takes configuration files, ask for the job of its name with
// args, and show its report of type R. begun reports whether a report is of a run that has
// begun.
func reportCommand[R interface{ Text(io.Writer) error }](cmd *cobra.Command, args any, begun func(R) bool) *cobra.Command {
	var files []string
	var raw bool
	configFlag(cmd, &files)
	cmd.Flags().BoolVar(&raw, "json", false, "print the report in JSON")
	cmd.Args = nil // as check: a shell makes --config *.yaml into a flag with one file, and arguments
	cmd.RunE = func(cmd *cobra.Command, more []string) error {
		var report R
		say := func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) }
		err := runJob(cmd, append(files, more...), cmd.Name(), args, say, &report)
		if !begun(report) {
			return err
		}
		out := cmd.OutOrStdout()
		if raw {
			return errors.Join(json.NewEncoder(out).Encode(report), err)
		}
		return errors.Join(report.Text(out), err)
	}
	return cmd
}

// runJobOf is the job that does a run, told by A, after it has said what it does.
func runJobOf[A, R any](doing string, run func(ctx context.Context, args A) (R, error)) job {
	return func(ctx context.Context, told json.RawMessage, say func(string)) (any, error) {
		var args A
		if err := json.Unmarshal(told, &args); err != nil {
			return nil, err
		}
		say(doing)
		return run(ctx, args)
	}
}

// notOurs is the job of a weir whose content is kept by somebody else, who does that.
func notOurs(does string) job {
	return func(context.Context, json.RawMessage, func(string)) (any, error) {
		return nil, errors.New("origin.url is set: the registry there " + does + ", not weir")
	}
}

// logged does a run, and logs what came of it.
func logged[R any](ctx context.Context, a *app, run func(context.Context) (R, error), well, ill string, attrs func(R) []any) {
	begun := time.Now()
	r, err := run(ctx)
	switch {
	case errors.Is(err, lifetime.ErrRunning), ctx.Err() != nil:
	case err != nil:
		a.log.Error(ill, append([]any{"error", err}, attrs(r)...)...)
	default:
		a.log.Info(well, append(attrs(r), "duration_ms", time.Since(begun).Milliseconds())...)
	}
}
