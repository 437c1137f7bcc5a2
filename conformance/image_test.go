//go:build clients

package conformance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// What the top layer of the Debian image does to the ones below: a client that
// unpacks it wrongly shows it.
const (
	addedFile   = "etc/weir-release"
	addedText   = "pulled through weir\n"
	removedFile = "etc/issue.net"
)

// debianLayout makes the image that everything here pulls, as an OCI layout: an
// index of two platforms, a whole Debian for linux/amd64 in four layers and a
// small one for linux/arm64 in two.
func debianLayout(t *testing.T, dir string) {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range []struct {
		arch   string
		layers []string // prefixes: what goes into a layer of its own; the rest is the base
	}{
		{"amd64", []string{"usr/lib/", "usr/share/"}},
		{"arm64", []string{"usr/lib/"}},
	} {
		image := debianImage(t, tool(t, "rootfs-"+p.arch), p.arch, p.layers)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: p.arch}},
		})
	}
	root := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add:        index,
		Descriptor: v1.Descriptor{Annotations: map[string]string{"org.opencontainers.image.ref.name": "bookworm"}},
	})
	if _, err := layout.Write(dir, root); err != nil {
		t.Fatal(err)
	}
}

func debianImage(t *testing.T, rootfs, arch string, split []string) v1.Image {
	t.Helper()
	created := v1.Time{Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	image, err := mutate.ConfigFile(
		mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		&v1.ConfigFile{
			OS: "linux", Architecture: arch, Created: created, RootFS: v1.RootFS{Type: "layers"},
			Config: v1.Config{
				Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
				Cmd: []string{"/bin/sh"},
			},
		})
	if err != nil {
		t.Fatal(err)
	}
	files, err := splitTree(rootfs, split)
	if err != nil {
		t.Fatal(err)
	}
	if arch == "amd64" {
		files = append(files, topLayer(t))
	}
	for i, file := range files {
		layer, err := tarball.LayerFromOpener(
			func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(file)), nil },
			tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
		if err != nil {
			t.Fatal(err)
		}
		image, err = mutate.Append(image, mutate.Addendum{
			Layer:   layer,
			History: v1.History{Created: created, CreatedBy: "layer " + string(rune('1'+i))},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return image
}

// splitTree cuts a root file system's tar file into layers: the base, then one per
// prefix. A directory is repeated in every layer that holds something below it,
// with its own mode and owner, as image builders do.
func splitTree(name string, prefixes []string) ([][]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var (
		out     = make([]bytes.Buffer, len(prefixes)+1)
		writers = make([]*tar.Writer, len(out))
		written = make([]map[string]bool, len(out))
		dirs    = map[string]*tar.Header{}
	)
	for i := range out {
		writers[i], written[i] = tar.NewWriter(&out[i]), map[string]bool{}
	}
	var parents func(layer int, dir string) error
	parents = func(layer int, dir string) error {
		h := dirs[dir+"/"]
		if h == nil || written[layer][dir] {
			return nil
		}
		if err := parents(layer, path.Dir(dir)); err != nil {
			return err
		}
		written[layer][dir] = true
		return writers[layer].WriteHeader(h)
	}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		h.Name = strings.TrimPrefix(h.Name, "./")
		if h.Name == "" {
			continue // the root itself is not part of a layer
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = strings.TrimPrefix(h.Linkname, "./")
		}
		layer := 0
		for i, p := range prefixes {
			if strings.HasPrefix(h.Name, p) {
				layer = i + 1
			}
		}
		if h.Typeflag == tar.TypeDir {
			dirs[h.Name] = h
			if err := parents(layer, strings.TrimSuffix(h.Name, "/")); err != nil {
				return nil, err
			}
			continue
		}
		if err := parents(layer, path.Dir(h.Name)); err != nil {
			return nil, err
		}
		if err := writers[layer].WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := io.Copy(writers[layer], r); err != nil {
			return nil, err
		}
	}
	layers := make([][]byte, len(out))
	for i := range out {
		if err := writers[i].Close(); err != nil {
			return nil, err
		}
		layers[i] = out[i].Bytes()
	}
	return layers, nil
}

// topLayer adds a file and removes one.
func topLayer(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	dir, base := path.Split(removedFile)
	for _, f := range []struct{ name, text string }{{addedFile, addedText}, {dir + ".wh." + base, ""}} {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(f.text)), Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
