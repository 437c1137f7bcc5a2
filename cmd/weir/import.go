package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/importer"
)

func newImport() *cobra.Command {
	var (
		files []string
		job   importJob
	)
	cmd := &cobra.Command{
		Use:   "import (--from DIR | --layout DIR) --config FILE... [--endpoint URL] [--path-style] [--name IMAGE]",
		Short: "Take over another registry's storage, or an OCI image layout",
		Long: `Takes images over from files into the registry of a configuration.

--from DIR is the rootdirectory of a CNCF Distribution (docker-registry): the
directory that holds docker/registry/v2. All its repositories are taken, with the
manifests that no tag names. On the same file system blobs are not copied but
linked, if they belong to the user that weir runs as and nobody else may write to
them. Blobs that no manifest names are left out. DIR may be s3://BUCKET/PREFIX, with
the credentials of AWS's default chain (AWS_ACCESS_KEY_ID and so on); another store's
address is --endpoint, and --path-style if it wants that.

--layout DIR is an OCI image layout. An image goes where its whole name
(io.containerd.image.name) says: docker.io/library/nginx:1.27 is kept as though it
had been fetched from docker.io, team/app:v1 is local. An image without one goes to
--name IMAGE.

Every digest is checked. What is corrupt is named and not taken, nor is what names
it; the rest is, and the command then ends with 1. The source is not changed. What
is there already is not written again, so that an import may be repeated; a tag that
names something else by then is moved, and the line about it says from where.`,
		Example: `  weir import --from /var/lib/registry --config /etc/weir/weir.yaml
  weir import --layout ./images --config /etc/weir/weir.yaml
  weir import --layout ./app --name team/app:v1 --config /etc/weir/weir.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			files := append(files, args...) // a shell makes --config *.yaml into more arguments
			if len(files) == 0 {
				return misused(cmd, "--config is missing: name the files that say where the registry is")
			}
			if err := job.check(cmd); err != nil {
				return err
			}
			var sum importer.Summary
			if err := transfer(cmd, files, "import", job, &sum); err != nil {
				return fmt.Errorf("import: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "imported: %s\n", summarize(sum))
			if sum.Failed > 0 {
				return fmt.Errorf("import: %s not taken", either(sum.Failed == 1, "1 thing was", fmt.Sprintf("%d things were", sum.Failed)))
			}
			return nil
		},
	}
	configFlag(cmd, &files)
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&job.From, "from", "", "take over the storage of a CNCF Distribution in `DIR`, or s3://BUCKET/PREFIX")
	cmd.Flags().StringVar(&job.Endpoint, "endpoint", "", "ask the store at `URL` for the bucket, not AWS")
	cmd.Flags().BoolVar(&job.PathStyle, "path-style", false, "put the bucket into the path of the URL, not into its host")
	cmd.Flags().StringVar(&job.Layout, "layout", "", "take over the OCI image layout in `DIR`")
	cmd.Flags().StringVar(&job.Name, "name", "", "call `IMAGE` what has no whole name in the layout: a repository with or without a tag")
	return cmd
}

// check says whether the flags make sense together, and makes paths absolute.
func (j *importJob) check(cmd *cobra.Command) error {
	switch {
	case j.From == "" && j.Layout == "":
		return misused(cmd, "--from or --layout is missing: name what to import")
	case j.From != "" && j.Layout != "":
		return misused(cmd, "--from and --layout are two imports")
	case j.Name != "" && j.Layout == "":
		return misused(cmd, "--name is for --layout: the storage of a registry has names for all")
	}
	if j.Name != "" {
		if _, err := parseImage(j.Name); err != nil {
			return misused(cmd, "--name: %s is not the name of an image", origin.Quote(j.Name))
		}
	}
	name, remote := strings.CutPrefix(j.From, bucketScheme)
	switch {
	case remote && (name == "" || name[0] == '/'):
		return misused(cmd, "--from: the bucket is missing in %s", origin.Quote(j.From))
	case !remote && (j.Endpoint != "" || j.PathStyle):
		return misused(cmd, "--endpoint and --path-style are for --from s3://BUCKET/PREFIX")
	case j.Endpoint != "":
		var u config.URL
		if err := u.UnmarshalText([]byte(j.Endpoint)); err != nil {
			return misused(cmd, "--endpoint: %w", err)
		}
	}
	for _, dir := range []*string{&j.From, &j.Layout} {
		if *dir == "" || dir == &j.From && remote {
			continue
		}
		var err error
		if *dir, err = filepath.Abs(*dir); err == nil {
			j.Seen, err = see(*dir)
		}
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
	}
	return nil
}

// transfer has an import or an export done, and shows how it goes on.
func transfer(cmd *cobra.Command, files []string, name string, job, result any) error {
	show := newTransferShow(cmd.OutOrStdout(), cmd.ErrOrStderr())
	defer show.close()
	return runJob(cmd, files, name, job, showTold(show), result)
}
