package main

import (
	"os"

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
end first; a second one stops it at once.

Without --config it listens on 127.0.0.1:5000 (metrics and health on
127.0.0.1:5001), keeps its data in ./weir-data, and mirrors the well-known
public registries; names without a registry are docker.io's.`,
		Example: `  weir serve
  weir serve --config /etc/weir/weir.yaml
  weir serve --config base.yaml --config site.yaml --listen :5000 --data /var/lib/weir`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(files, os.LookupEnv, overrides(listen, data)...)
			if err != nil {
				return err
			}
			return runServer(cmd.Context(), c, cmd.ErrOrStderr())
		},
	}
	configFlag(cmd, &files)
	cmd.Flags().StringVar(&listen, "listen", "", "listen on `ADDR` (host:port or unix:/path) instead of server.listen")
	cmd.Flags().StringVar(&data, "data", "", "keep everything in `DIR` instead of the roots in store")
	return cmd
}

// overrides are the values that flags of serve put on top of all files.
func overrides(listen, data string) []config.Override {
	var o []config.Override
	if listen != "" {
		o = append(o, config.Override{Flag: "--listen", Key: "server.listen", Value: listen})
	}
	if data != "" {
		o = append(o,
			config.Override{Flag: "--data", Key: "store.blobs.filesystem.root", Value: data},
			config.Override{Flag: "--data", Key: "store.metadata.filesystem.root", Value: data})
	}
	return o
}

// configFlag gives cmd its --config, which may be repeated.
func configFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVar(files, "config", nil, "read the configuration from `FILE`; a later one overrides an earlier one")
}
