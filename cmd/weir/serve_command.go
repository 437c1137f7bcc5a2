package main

import (
	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/cmd/weir/config"
)

func newServe() *cobra.Command {
	var (
		files  []string
		listen string
		data   string
	)
	cmd := &cobra.Command{
		Use:   "serve [--config FILE]... [--listen ADDR] [--data DIR]",
		Short: "Run the registry",
		Long: `Runs the registry until SIGTERM or SIGINT, which let running pulls and pushes
end first; a second one stops it at once. SIGHUP, or a change of a file, has
the configuration read again.

Without --config it listens on 127.0.0.1:5000 (metrics and health on
127.0.0.1:5001), keeps its data in ./weir-data, and mirrors the well-known
public registries; names without a registry are docker.io's.`,
		Example: `  weir serve
  weir serve --config /etc/weir/weir.yaml
  weir serve --config base.yaml --config site.yaml --listen :5000 --data /var/lib/weir`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := overrides(cmd, listen, data)
			if err != nil {
				return err
			}
			from := configuration{files: files, overrides: o}
			c, err := from.load()
			if err != nil {
				return err
			}
			return runServer(cmd.Context(), c, from, cmd.ErrOrStderr())
		},
	}
	configFlag(cmd, &files)
	cmd.Flags().StringVar(&listen, "listen", "", "listen on `ADDR` (host:port or unix:/path) instead of server.listen")
	cmd.Flags().StringVar(&data, "data", "", "keep everything in `DIR` instead of the roots in store")
	return cmd
}

// overrides are the values that flags of serve put on top of all files. A flag that was
// given and says nothing is not taken for one that was not given.
func overrides(cmd *cobra.Command, listen, data string) ([]config.Override, error) {
	var o []config.Override
	if cmd.Flags().Changed("listen") {
		var a config.Address
		if err := a.UnmarshalText([]byte(listen)); err != nil {
			return nil, misused(cmd, "--listen: %w", err)
		}
		if a.IsZero() {
			return nil, misused(cmd, "--listen is empty")
		}
		o = append(o, config.Override{Flag: "--listen", Key: "server.listen", Value: listen})
	}
	if cmd.Flags().Changed("data") {
		if data == "" {
			return nil, misused(cmd, "--data is empty")
		}
		o = append(o,
			config.Override{Flag: "--data", Key: "store.blobs.filesystem.root", Value: data},
			config.Override{Flag: "--data", Key: "store.metadata.filesystem.root", Value: data})
	}
	return o, nil
}

// configFlag gives cmd its --config, which may be repeated.
func configFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVar(files, "config", nil, "read the configuration from `FILE`; a later one overrides an earlier one")
}
