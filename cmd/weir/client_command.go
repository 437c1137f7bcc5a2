package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/cmd/weir/client"
	"github.com/weir-registry/weir/cmd/weir/config"
)

// clientFlags are what the command was told.
type clientFlags struct {
	mirror           string
	upstreams        []string
	everything       bool
	version          string
	dir              string
	hold             bool
	remove           bool
	containerdConfig string
}

func newClient() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "client containerd|docker|podman --mirror URL [--upstream NAME]... [--write DIR]",
		Short: "Configure containerd, Docker or podman to pull through weir",
		Long: `Prints the configuration that makes a client ask weir before it asks a registry,
or with --write puts it into the client's own files. What else is in them stays,
and writing twice is writing once. If weir is away, clients go on to the registry.

  client      for                     file                          usual DIR
  containerd  each --upstream         UPSTREAM/hosts.toml           /etc/containerd/certs.d
  docker      docker.io alone         daemon.json                   /etc/docker
  podman      each --upstream         registries.conf               /etc/containers

containerd reads its file at each pull, podman at each start; dockerd when it is
told to (systemctl reload docker). Docker does not say which registry it means:
weir must have "mirror.default: docker.io", which it has without a
configuration file. CRI-O, skopeo and buildah read podman's file.`,
		Example: `  weir client containerd --mirror http://127.0.0.1:5000 --write /etc/containerd/certs.d
  weir client containerd --mirror http://127.0.0.1:5000 --default --version 2.2
  weir client docker --mirror http://127.0.0.1:5000 --write /etc/docker
  weir client podman --mirror https://weir.corp --upstream docker.io --upstream ghcr.io
  weir client podman --write /etc/containers --remove`,
		Args: exactly(1, "the client (containerd, docker or podman)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := f.files(cmd, args[0])
			if err != nil {
				return err
			}
			for _, note := range f.notes(args[0]) {
				fmt.Fprintln(cmd.ErrOrStderr(), note)
			}
			switch out := cmd.OutOrStdout(); {
			case f.remove:
				return removeFiles(out, f.dir, files)
			case f.hold:
				return holdFiles(cmd.Context(), out, f.dir, files)
			case f.dir != "":
				return writeFiles(out, f.dir, files)
			default:
				return printFiles(out, files)
			}
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.mirror, "mirror", "", "weir's `URL` as the client reaches it, such as http://127.0.0.1:5000")
	flags.StringArrayVar(&f.upstreams, "upstream", nil, "pull the images of registry `NAME` through weir; repeatable (default: the well-known ones)")
	flags.BoolVar(&f.everything, "default", false, "containerd: one file for every registry that has none of its own")
	flags.StringVar(&f.version, "version", "", "containerd: its `VERSION`; from 2.2 on it asks weir for referrers too")
	flags.StringVar(&f.dir, "write", "", "put the configuration into the client's files below `DIR`")
	flags.BoolVar(&f.hold, "hold", false, "with --write: stay, and take it out again on SIGTERM")
	flags.BoolVar(&f.remove, "remove", false, "with --write: take it out again")
	flags.StringVar(&f.containerdConfig, "containerd-config", "/etc/containerd/config.toml", "containerd: its own configuration `FILE`, looked at for a config_path")
	return cmd
}

// files are the files of the client that the flags mean.
func (f *clientFlags) files(cmd *cobra.Command, kind string) ([]client.File, error) {
	if err := f.validate(cmd, kind); err != nil {
		return nil, err
	}
	mirror, err := f.parseMirror(cmd, kind)
	if err != nil {
		return nil, err
	}
	names := f.upstreams
	if len(names) == 0 && !f.everything {
		names = config.WellKnown()
	}
	switch kind {
	case "docker":
		return []client.File{client.Docker(mirror)}, nil
	case "podman":
		return []client.File{client.Podman(mirror, names)}, nil
	}
	if f.remove && len(f.upstreams) == 0 && !f.everything {
		return client.ContainerdIn(f.dir)
	}
	var version client.Version
	if f.version != "" {
		if version, err = client.ParseVersion(f.version); err != nil {
			return nil, misused(cmd, "--version: %w", err)
		}
	}
	var files []client.File
	for _, name := range names {
		files = append(files, client.Containerd(mirror, version, name))
	}
	if f.everything {
		files = append(files, client.Containerd(mirror, version, ""))
	}
	return files, nil
}

func (f *clientFlags) validate(cmd *cobra.Command, kind string) error {
	switch kind {
	case "containerd", "docker", "podman":
	default:
		return misused(cmd, "%q is no client: write containerd, docker or podman", kind)
	}
	if f.dir == "" && (f.hold || f.remove) {
		return misused(cmd, "--hold and --remove need --write DIR")
	}
	if f.hold && f.remove {
		return misused(cmd, "--hold and --remove exclude each other")
	}
	if f.everything && kind != "containerd" {
		return misused(cmd, "--default is for containerd: %s has no such file", kind)
	}
	for _, name := range f.upstreams {
		if !config.ValidHost(name) {
			return misused(cmd, "--upstream %q is no registry: write a host in lower case, with a port where it has one", name)
		}
		if kind == "docker" && name != "docker.io" {
			return misused(cmd, "docker's registry-mirrors are for docker.io only, not for %s; with the containerd image store, dockerd reads what \"weir client containerd --write /etc/docker/certs.d\" writes", name)
		}
	}
	return nil
}

// parseMirror is the mirror of the flags. Taking out what marks itself needs none.
func (f *clientFlags) parseMirror(cmd *cobra.Command, kind string) (client.Mirror, error) {
	var m client.Mirror
	if f.mirror == "" {
		if f.remove && kind != "docker" {
			return m, nil
		}
		return m, misused(cmd, "--mirror is missing: give weir's URL as the client reaches it")
	}
	if err := m.URL.UnmarshalText([]byte(f.mirror)); err != nil {
		return m, misused(cmd, "--mirror: %w", err)
	}
	if m.URL.Path != "" {
		return m, misused(cmd, "--mirror has the path %q: clients find a registry only at the root of a host", m.URL.Path)
	}
	return m, nil
}

// notes are what the user should know besides.
func (f *clientFlags) notes(kind string) []string {
	if kind != "containerd" || f.remove {
		return nil
	}
	text, err := os.ReadFile(f.containerdConfig)
	if err != nil || client.ReadsHosts(text) {
		return nil // where there is no such file, containerd may be on another machine
	}
	return []string{"warning: " + f.containerdConfig + " has no config_path for the registries of its image service: " +
		"pulls of Kubernetes will not come here before it has one, such as /etc/containerd/certs.d, and containerd was restarted"}
}

func printFiles(out io.Writer, files []client.File) error {
	for i, file := range files {
		text, err := file.New()
		if err != nil {
			return err
		}
		if len(files) > 1 {
			// Only containerd has more than one file, and they are TOML.
			if i > 0 {
				fmt.Fprintln(out)
			}
			fmt.Fprintf(out, "# %s\n", file.Name)
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	return nil
}

func writeFiles(out io.Writer, dir string, files []client.File) error {
	return eachFile(out, dir, files, "written", client.File.Write)
}

func removeFiles(out io.Writer, dir string, files []client.File) error {
	return eachFile(out, dir, files, "taken out", client.File.Remove)
}

// eachFile does to every file what it can, and says so.
func eachFile(out io.Writer, dir string, files []client.File, done string, do func(client.File, string) (bool, error)) error {
	var errs error
	for _, file := range files {
		changed, err := do(file, dir)
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		word := done
		if !changed {
			word = "unchanged"
		}
		fmt.Fprintf(out, "%s: %s\n", filepath.Join(dir, file.Name), word)
	}
	return errs
}

// holdFiles writes the files and takes them out again when it is told to end. What
// was written before an error is taken out as well.
func holdFiles(ctx context.Context, out io.Writer, dir string, files []client.File) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := writeFiles(out, dir, files); err != nil {
		return errors.Join(err, removeFiles(out, dir, files))
	}
	<-ctx.Done()
	return removeFiles(out, dir, files)
}
