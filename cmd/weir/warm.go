package main

import (
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/origin"
)

func newWarm() *cobra.Command {
	var (
		list      string
		platforms []string
		refresh   bool
		server    serverFlags
	)
	cmd := &cobra.Command{
		Use:   "warm IMAGE... [--file LIST] [--platform os/arch]... [--refresh] [--server URL] [--ca FILE]",
		Short: "Fetch images into a running weir before anybody pulls them",
		Long: `Pulls images through a running weir and throws them away, so that weir has them.
Every digest is checked on the way. An image that fails does not keep the others
from being fetched; the command then ends with 1.

Of an image for several platforms the one of this machine is fetched (linux, and
its processor), or each one that --platform names; "--platform all" fetches them
all, with what else the index names (attestations). A platform that an image does
not have is an error. An image for one platform is fetched whatever it is for.

LIST has one image a line; what follows a "#" is a comment, "-" is standard input.
With --refresh weir asks the upstream what the tags stand for now, whatever their
TTL. Where it cannot, the image that weir has is served, and the output says so.

weir is asked as whoever is logged in to it ("docker login", or a credential
helper), and as nobody if nobody is.`,
		Example: `  weir warm docker.io/library/nginx:1.27 registry.k8s.io/pause:3.10
  weir warm --file images.txt --platform linux/amd64 --platform linux/arm64
  kubectl get pods -A -o jsonpath='{..image}' | tr ' ' '\n' | sort -u | weir warm --file -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			// There is no total timeout: layers are long. What stalls is cut elsewhere.
			base, client, err := server.open(cmd, warmStall, warmBlobs+warmImagesAtATime)
			if err != nil {
				return err
			}
			w := &warmer{server: base, client: client, refresh: refresh}
			if w.wants, err = warmPlatforms(cmd, platforms); err != nil {
				return err
			}
			images, err := warmImages(cmd, args, list)
			if err != nil {
				return err
			}
			w.show = newWarmShow(cmd.OutOrStdout(), cmd.ErrOrStderr())
			if failed := w.run(cmd.Context(), images); failed > 0 {
				return fmt.Errorf("warm: %d of %d images failed", failed, len(images))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&list, "file", "", "fetch the images of `LIST` too, a file with one a line")
	cmd.Flags().StringArrayVar(&platforms, "platform", nil, "fetch the image for `os/arch`, or os/arch/variant, or all")
	cmd.Flags().BoolVar(&refresh, "refresh", false, "have the tags checked now, whatever their TTL")
	server.add(cmd, "fetch through")
	return cmd
}

// warmPlatforms gives what --platform says: nil means all.
func warmPlatforms(cmd *cobra.Command, names []string) ([]origin.Platform, error) {
	if len(names) == 0 {
		// Images run on Linux, also where this command does not.
		names = []string{"linux/" + runtime.GOARCH}
	}
	var platforms []origin.Platform
	all := false
	for _, name := range names {
		if name == "all" {
			all = true
			continue
		}
		p, err := origin.ParsePlatform(name)
		if err != nil {
			return nil, misused(cmd, "--platform: %w", err)
		}
		platforms = append(platforms, p)
	}
	if all {
		return nil, nil
	}
	return platforms, nil
}

// warmImages gives the images of the command line and of the list, each once.
func warmImages(cmd *cobra.Command, args []string, list string) ([]image, error) {
	var images []image
	seen := map[string]bool{}
	add := func(name string) error {
		x, err := parseImage(name)
		if err == nil && !seen[name] {
			seen[name] = true
			images = append(images, x)
		}
		return err
	}
	for _, name := range args {
		if err := add(name); err != nil {
			return nil, misused(cmd, "%s is not the name of an image", origin.Quote(name))
		}
	}
	if list != "" {
		lines, err := readWarmList(cmd.InOrStdin(), list)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			if err := add(l.name); err != nil {
				return nil, misused(cmd, "%s:%d: %s is not the name of an image", list, l.number, origin.Quote(l.name))
			}
		}
	}
	if len(images) == 0 && list == "" {
		return nil, misused(cmd, "the image is missing")
	}
	return images, nil
}

func readWarmList(stdin io.Reader, list string) ([]warmLine, error) {
	if list == "-" {
		return parseWarmList(stdin)
	}
	f, err := os.Open(list)
	if err != nil {
		return nil, err
	}
	lines, err := parseWarmList(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return lines, err
}
