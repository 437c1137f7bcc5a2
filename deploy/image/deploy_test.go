//go:build deploy

package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/weir-registry/weir/deploy/alonetest"
)

// cosignPath is where the tests find cosign, which they could not fetch where they are.
const cosignPath = "WEIR_DEPLOY_COSIGN"

// TestMain runs the tests as on a machine of their own: the image's own ports are free there,
// and there is no network: a build that fetched something would fail.
func TestMain(m *testing.M) {
	alonetest.Main(m, alonetest.Options{Why: "they change their root", Network: true, Before: func() ([]string, error) {
		cosign := exec.Command("../../conformance/tools.sh", "cosign")
		cosign.Stderr = os.Stderr
		path, err := cosign.Output()
		if err != nil {
			return nil, fmt.Errorf("tools.sh cosign: %w", err)
		}
		return []string{cosignPath + "=" + strings.TrimSpace(string(path))}, nil
	}})
}

// What make is told in place of what git says, so that two checkouts are of one commit.
const (
	version = "v1.2.3"
	commit  = "0123456789abcdef0123456789abcdef01234567"
	epoch   = 1_700_000_000
)

// TestImage tells one story: two builds are the same; one is pushed to weir and pulled
// from it with all that refers to it; cosign believes it; and what was pulled runs.
func TestImage(t *testing.T) {
	key, public := keyPair(t)
	one := makeImage(t, key, "umask 022")
	two := makeImage(t, key, "umask 077; export TZ=Asia/Tokyo LANG=C GOFLAGS=-p=1")
	if a, b := tree(t, filepath.Join(one, "dist/image")), tree(t, filepath.Join(two, "dist/image")); !slices.Equal(a, b) {
		t.Fatalf("two builds are not the same:\n%s\n\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}

	const registry = "127.0.0.1:5100"
	serve(t, filepath.Join(one, "dist/linux-amd64/weir"), registry)
	ref, err := name.NewTag(registry + "/infra/weir:" + version)
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	t.Setenv("COSIGN_PASSWORD", password)
	if err := run(t.Context(), []string{
		"-binaries", filepath.Join(one, "dist"), "-licences", filepath.Join(one, "dist/licences"), "-key", key, "-push", ref.String(),
		"-version", version, "-commit", commit, "-created", strconv.Itoa(epoch),
	}, &said); err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Errorf("what was pulled: %v", err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if want := ref.String() + " " + digest.String() + "\n"; said.String() != want {
		t.Errorf("pushed %q, pulled %q", said.String(), want)
	}
	if _, err := os.Stat(filepath.Join(one, "dist/image/blobs/sha256", digest.Hex)); err != nil {
		t.Errorf("pulled something else than the layout has: %v", err)
	}
	signed(t, ref, digest, public)
	refers(t, ref.Context().Digest(digest.String()), map[string]int{string(bundleType): 1})

	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.Annotations["org.opencontainers.image.revision"] != commit || len(manifest.Manifests) != 2 {
		t.Errorf("the index is %+v", manifest)
	}
	for _, d := range manifest.Manifests {
		t.Run(d.Platform.Architecture, func(t *testing.T) {
			if d.Platform.OS != "linux" || d.ArtifactType != "" {
				t.Errorf("named as %+v", d)
			}
			signed(t, ref, d.Digest, public)
			at := ref.Context().Digest(d.Digest.String())
			refers(t, at, map[string]int{string(bundleType): 1, string(sbomType): 1})
			listsModules(t, at)
			image, err := index.Image(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			root := unpack(t, image)
			standalone(t, filepath.Join(root, "usr/bin/weir"), map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[d.Platform.Architecture])
			runs(t, image, root)
		})
	}
}
