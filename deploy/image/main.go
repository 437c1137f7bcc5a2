// Command image makes the container image of weir: an OCI image layout with an index of
// linux/amd64 and linux/arm64, what each image is made of (CycloneDX), and, given a key,
// signatures; the last two as referrers. `make image` runs it.
//
// It needs no container engine and no network. What it writes follows from its arguments,
// the binaries and the versions in go.mod alone: no clock, no random number, nothing of
// the machine. So two builds of one commit by one release of Go are the same bytes, and
// whoever has the source can check an image.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run does what args say, and prints what an image has become known by.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	binaries := flags.String("binaries", "dist", "take weir from `DIR`/linux-ARCH/weir")
	licences := flags.String("licences", "dist/licences", "`FILE` with the terms of all that is in them, of deploy/licences")
	out := flags.String("out", "", "write the image layout to `DIR`, which is not there yet or empty")
	version := flags.String("version", "unknown", "the `VERSION` of these binaries")
	commit := flags.String("commit", "unknown", "the `COMMIT` that they are made of")
	created := flags.Int64("created", 0, "its time, in `SECONDS` since 1970")
	keyFile := flags.String("key", "", "sign with the private key in `FILE` (PEM, ECDSA P-256; of cosign too, with COSIGN_PASSWORD)")
	push := flags.String("push", "", "push it to `REGISTRY/REPOSITORY:TAG`, as whoever docker login says")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("what is %q?", flags.Arg(0))
	}
	var to name.Tag
	if *push != "" {
		// Strict: what names no registry would be Docker Hub's. That a scheme is none is in no other function.
		ref, err := name.ParseReference(*push, name.StrictValidation)
		if to, _ = ref.(name.Tag); err != nil || to.TagStr() == "" {
			return fmt.Errorf("-push %q: write REGISTRY/REPOSITORY:TAG", *push)
		}
	}
	var s *signer
	if *keyFile != "" {
		var err error
		if s, err = openSigner(*keyFile, os.Getenv("COSIGN_PASSWORD")); err != nil {
			return fmt.Errorf("-key: %w", err)
		}
	}
	copyright, err := os.ReadFile(*licences)
	if err != nil {
		return fmt.Errorf("-licences: %w", err)
	}
	r := release{version: *version, commit: *commit, created: time.Unix(*created, 0).UTC(), copyright: copyright}
	b, err := build(ctx, r, s, func(arch string) string { return filepath.Join(*binaries, "linux-"+arch, "weir") })
	if err != nil {
		return err
	}
	if *out == "" && *push == "" {
		return errors.New("neither -out nor -push: there is nothing to do")
	}
	digest, err := b.index.Digest()
	if err != nil {
		return err
	}
	if *out != "" {
		if err := b.write(*out); err != nil {
			return fmt.Errorf("write %s: %w", *out, err)
		}
		fmt.Fprintf(stdout, "%s:%s %s\n", *out, r.version, digest) // what skopeo calls it
	}
	if *push != "" {
		if err := b.push(ctx, to); err != nil {
			return fmt.Errorf("push %s: %w", *push, err)
		}
		fmt.Fprintln(stdout, *push, digest)
	}
	return nil
}
