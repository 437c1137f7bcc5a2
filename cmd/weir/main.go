// Command weir is an OCI registry that sits in the stream between machines that
// pull images and the registries that own them.
//
// There is one file for each of its commands; wire.go alone knows which
// implementation stands behind each interface, and package config alone knows the
// format of configuration files.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// version and commit are stamped by the linker.
var (
	version = "unknown"
	commit  = "unknown"
)

// The exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitDenied = 3
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the command that args name and gives its exit code. It is the only
// place that prints errors.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if wrong, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(stderr, "weir: %v\nSee %s --help.\n", err, wrong.command)
		return exitUsage
	}
	if located, ok := errors.AsType[fileErrors](err); ok {
		fmt.Fprintln(stderr, located) // one line each, beginning with file:line
		return exitFailed
	}
	if errors.Is(err, errDenied) {
		return exitDenied // which the answer has said
	}
	fmt.Fprintf(stderr, "weir: %v\n", err)
	return exitFailed
}

// usageError says that a command was called in a way that it does not understand.
type usageError struct {
	command string // the words that call it
	err     error
}

func (e usageError) Error() string { return e.err.Error() }

func (e usageError) Unwrap() error { return e.err }

// misused is a usageError of cmd.
func misused(cmd *cobra.Command, format string, args ...any) error {
	return usageError{cmd.CommandPath(), fmt.Errorf(format, args...)}
}
