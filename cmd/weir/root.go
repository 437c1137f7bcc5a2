package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/cmd/weir/config"
)

// fileErrors are what is wrong with the files of a configuration.
type fileErrors = config.Errors

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "weir",
		Short: "An OCI registry: a mirror of others, and a place to push to",
		Long: `weir is an OCI registry. It mirrors other registries, so that each image is
fetched once however many machines ask for it, and people push their own
images to it.

  weir serve                       runs it: on 127.0.0.1:5000, data in ./weir-data
  weir client docker --mirror URL  says how a client is told to use it
  weir doctor --server URL         says how clients get on with it

URL is where they reach it: http://127.0.0.1:5000 on this machine.

Commands end with 0 when they are done, with 1 if something failed, with 2 if they
were called wrongly, and "policy test" with 3 for what is denied.`,
		Args:              noCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},

		SuggestionsMinimumDistance: 2,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return misused(cmd, "%w", err) })
	for _, group := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"To run it:", []*cobra.Command{newServe(), newCheck(), newVersion()}},
		{"To pull through it:", []*cobra.Command{newClient(), newDoctor(), newExplain(), newWarm()}},
		{"To say who may do what:", []*cobra.Command{newPolicyCommand(), newHashPassword()}},
		{"To look after what it keeps:", []*cobra.Command{newGC(), newScrub(), newRetain(), newImport(), newExport()}},
	} {
		root.AddGroup(&cobra.Group{ID: group.title, Title: group.title})
		for _, cmd := range group.commands {
			cmd.GroupID = group.title
			root.AddCommand(cmd)
		}
	}
	for _, cmd := range append(root.Commands(), root) {
		cmd.DisableFlagsInUseLine = true // they are in Use, as far as one must know them
	}
	return root
}

// noCommand complains of an argument where only the name of a command can stand.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(": did you mean %q?", strings.Join(near, `" or "`))
	}
	return misused(cmd, "%s has no command %q%s", cmd.CommandPath(), args[0], hint)
}

// exactly takes n arguments, which are called what.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > n:
			return misused(cmd, "%q is one argument too many", args[n])
		case len(args) < n:
			return misused(cmd, "%s is missing", what)
		}
		return nil
	}
}
