package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/cmd/weir/doctor"
	"github.com/weir-registry/weir/origin/remote/docker"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// doctorHeader is how long a client waits for the header of an answer: containerd's
// limit, which cannot be set.
const doctorHeader = 30 * time.Second

func newDoctor() *cobra.Command {
	var (
		server serverFlags
		name   string
		raw    bool
	)
	cmd := &cobra.Command{
		Use:   "doctor --server URL [--image IMAGE] [--ca FILE] [--json]",
		Short: "Say what of a mirror or registry would break its clients",
		Long: `Asks a server for an image as containerd, Docker with each of its two image
stores, podman and CRI-O do, and says for each what would break, why, and how to
mend it. The server is any mirror or registry, weir or not; nothing is changed
there. The command ends with 1 if something would break.

  ok           as the client wants it
  note         costs a request more, or is felt one day
  would break  the pull fails, or goes on without this server

An IMAGE of another registry (docker.io/library/nginx:1.27) is asked for as from a
mirror, one without a registry (team/app:v1) as the server's own. An image that a
mirror does not have yet shows more than one that it has. Without --image the
first is taken that the server lists, else docker.io/library/hello-world.

A login ("docker login" for the server) is shown where the client would show one:
Docker never shows one to a mirror.`,
		Example: `  weir doctor --server http://127.0.0.1:5000
  weir doctor --server https://mirror.corp --image docker.io/library/nginx:1.27
  weir doctor --server https://registry.corp --image team/app:v3 --json`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := doctorOptions(cmd, server, name)
			if err != nil {
				return err
			}
			defer o.Out.Close()
			report, err := doctor.Examine(cmd.Context(), o)
			if err != nil {
				return fmt.Errorf("doctor: %w", err)
			}
			if raw {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetEscapeHTML(false)
				err = e.Encode(report)
			} else {
				err = printReport(cmd.OutOrStdout(), report)
			}
			if err != nil {
				return err
			}
			if broken, all := report.Broken(); broken > 0 {
				return fmt.Errorf("doctor: %d of %d checks would break a client", broken, all)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&server.url, "server", "", "examine the mirror or registry at `URL`")
	cmd.Flags().StringVar(&server.ca, "ca", "", caUsage)
	cmd.Flags().StringVar(&name, "image", "", "pull `IMAGE` (default: one that the server lists)")
	cmd.Flags().BoolVar(&raw, "json", false, "print the report in JSON")
	return cmd
}

func doctorOptions(cmd *cobra.Command, server serverFlags, name string) (doctor.Options, error) {
	if server.url == "" {
		return doctor.Options{}, misused(cmd, "--server is missing: give the URL of a mirror or registry")
	}
	base, err := server.base(cmd)
	if err != nil {
		return doctor.Options{}, err
	}
	if base.Path != "" {
		return doctor.Options{}, misused(cmd, "--server has the path %q: clients find a registry only at the root of a host", base.Path)
	}
	o := doctor.Options{Server: base, Login: docker.New(base.Host)}
	if name != "" {
		x, err := parseImage(name)
		if err != nil {
			return o, misused(cmd, "--image: %w", err)
		}
		o.Image = doctor.Image{Host: x.host, Repo: x.repo, Ref: x.ref}
	}
	trust, err := server.trust()
	if err != nil {
		return o, err
	}
	o.Out = egress.New(egress.Options{
		URL: base, Trust: egress.Always(trust), UserAgent: "weir/" + version + " (doctor)",
		Timeouts: egress.Timeouts{Connect: doctorHeader, Header: doctorHeader},
	})
	return o, nil
}
