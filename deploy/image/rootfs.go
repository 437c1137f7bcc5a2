package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/pem"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nonroot is who weir runs as, by number: Kubernetes checks that it is not root. It is
// the number that images without a shell have in common.
const nonroot = 65532

//go:embed weir.yaml
var config []byte

// entry is a file or, where the name ends with a slash, a directory of the image.
type entry struct {
	name  string
	mode  int64
	owner int
	data  []byte
}

// files are all that is in the image with that binary, and its terms.
func files(weir, copyright []byte) []entry {
	return []entry{
		{name: "data/", mode: 0o700, owner: nonroot}, // a volume takes on owner and mode
		{name: "etc/", mode: 0o755},
		{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\nweir:x:65532:\n")},
		{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/:/sbin/nologin\nweir:x:65532:65532:weir:/data:/sbin/nologin\n")},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: authorities()},
		{name: "etc/weir/", mode: 0o755},
		{name: "etc/weir/weir.yaml", mode: 0o644, data: config},
		{name: "tmp/", mode: 0o1777}, // of S3 alone, as long as store.blobs.s3.spool is ""
		{name: "usr/", mode: 0o755},
		{name: "usr/bin/", mode: 0o755},
		{name: "usr/bin/weir", mode: 0o755, data: weir},
		{name: "usr/share/", mode: 0o755},
		{name: "usr/share/doc/", mode: 0o755},
		{name: "usr/share/doc/weir/", mode: 0o755},
		{name: "usr/share/doc/weir/copyright", mode: 0o644, data: copyright}, // where scanners look for it
	}
}

// authorities are those that Mozilla trusts, of the version in go.mod. One that it trusts
// only up to a date is left out: a file cannot say so.
func authorities() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a Buffer takes all
		}
	}
	return out.Bytes()
}

// layer makes a layer of entries that are all from one moment.
func layer(entries []entry, at time.Time) (v1.Layer, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Uid: e.owner, Gid: e.owner,
			Size: int64(len(e.data)), ModTime: at, Format: tar.FormatPAX,
		}
		if e.name[len(e.name)-1] == '/' {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil },
		tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}
