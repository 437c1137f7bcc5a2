package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/cmd/weir/config"
)

func newCheck() *cobra.Command {
	var (
		files     []string
		printFile bool
	)
	cmd := &cobra.Command{
		Use:   "check --config FILE... [--print]",
		Short: "Examine a configuration",
		Long: `Examines a configuration exactly as serve would, and says all that is wrong
with it, each with its file and line. Variables are taken from the environment
of this command.`,
		Example: `  weir check --config /etc/weir/weir.yaml
  weir check --config base.yaml site.yaml --print`,
		// A shell makes --config *.yaml into a flag with one file, and arguments.
		Args: nil,
		RunE: func(cmd *cobra.Command, args []string) error {
			files := append(files, args...)
			if len(files) == 0 {
				return misused(cmd, "--config is missing: name the files to examine")
			}
			c, err := config.Load(files, os.LookupEnv)
			if err != nil {
				return err
			}
			for _, w := range c.Warnings() {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+w)
			}
			if !printFile {
				fmt.Fprintln(cmd.OutOrStdout(), "ok")
				return nil
			}
			text, err := c.Effective()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	configFlag(cmd, &files)
	cmd.Flags().BoolVar(&printFile, "print", false, "print what holds in the end, defaults included; secrets are <redacted>")
	return cmd
}
