package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/origin"
)

func newExport() *cobra.Command {
	var (
		files []string
		job   exportJob
	)
	cmd := &cobra.Command{
		Use:   "export --layout DIR IMAGE... --config FILE...",
		Short: "Put images into an OCI image layout",
		Long: `Puts images into the OCI image layout in DIR, which is made unless it is there:
those for all platforms, with what refers to them (signatures, attestations), and
what refers to these. skopeo, crane, containerd and others read it, and weir import
takes it over elsewhere.

IMAGE is one that was pushed here, or one that was fetched, by a tag or a digest.
Nothing is fetched for it: an image that is not here whole is not exported, and what
is missing is said. "weir warm --platform all IMAGE" fetches it.

An image is in the layout whole or not at all; other images in it stay, and one of
the same name is replaced. If one fails, the others are exported, and the command
ends with 1.`,
		Example: `  weir export --layout ./images team/app:v1 docker.io/library/nginx:1.27 --config /etc/weir/weir.yaml
  skopeo inspect oci:./images:v1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(files) == 0:
				return misused(cmd, "--config is missing: name the files that say where the registry is")
			case job.Layout == "":
				return misused(cmd, "--layout is missing: name the directory to export to")
			case len(args) == 0:
				return misused(cmd, "the image is missing")
			}
			for _, name := range args {
				if _, err := parseImage(name); err != nil {
					return misused(cmd, "%s is not the name of an image", origin.Quote(name))
				}
			}
			job.Images = args
			var err error
			if job.Layout, err = filepath.Abs(job.Layout); err == nil {
				job.Seen, err = see(job.Layout)
			}
			if err != nil {
				return fmt.Errorf("export: %w", err)
			}
			failed := 0
			err = transfer(cmd, files, "export", job, &failed)
			if err == nil && failed > 0 {
				err = fmt.Errorf("%d of %d images failed", failed, len(job.Images))
			}
			if err != nil {
				return fmt.Errorf("export: %w", err)
			}
			return nil
		},
	}
	configFlag(cmd, &files)
	cmd.Flags().StringVar(&job.Layout, "layout", "", "export to the OCI image layout in `DIR`")
	return cmd
}
