package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// The storage of a Distribution is taken over from a bucket, with the credentials of the
// environment. What is corrupt there is named.
func TestImportFromS3(t *testing.T) {
	server := s3test.Start(t)
	bucket := server.Bucket(t)
	put := func(key string, content []byte) {
		t.Helper()
		name := filepath.Join(server.Dir, bucket, "old/registry/docker/registry/v2", filepath.FromSlash(key))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data := func(d digest.Digest, content []byte) {
		put("blobs/sha256/"+d.Encoded()[:2]+"/"+d.Encoded()+"/data", content)
	}
	img := origintest.Image([]byte(`{}`), origintest.Bytes(1, 6<<20))
	for _, b := range img.Blobs {
		data(b.Digest, b.Bytes)
		put("repositories/team/app/_layers/sha256/"+b.Digest.Encoded()+"/link", []byte(b.Digest))
	}
	data(img.Digest(), img.Manifest.Bytes)
	put("repositories/team/app/_manifests/revisions/sha256/"+img.Digest().Encoded()+"/link", []byte(img.Digest()))
	put("repositories/team/app/_manifests/tags/v1/current/link", []byte(img.Digest()))

	root := t.TempDir()
	file := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(file, []byte("store: {blobs: {filesystem: {root: '"+root+"'}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", s3test.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.SecretKey)
	weir := func(from string) (code int, stdout, stderr string) {
		var out, err bytes.Buffer
		code = run(t.Context(), []string{"import", "--from", from, "--endpoint", server.URL, "--path-style", "--config", file}, &out, &err)
		return code, out.String(), err.String()
	}
	if code, out, err := weir("s3://" + bucket + "/old/registry"); code != exitDone || !strings.Contains(out, "imported: 1 manifest, 1 tag, 2 blobs (6.0 MiB)\n") {
		t.Errorf("%d: %s%s", code, out, err)
	}
	if code, out, err := weir("s3://" + bucket + "/old/registry/"); code != exitDone || !strings.Contains(out, "imported: nothing to do") {
		t.Errorf("again: %d: %s%s", code, out, err)
	}
	layer, err := os.ReadFile(filepath.Join(root, "blobs/sha256", img.Blobs[1].Digest.Encoded()))
	if err != nil || !bytes.Equal(layer, img.Blobs[1].Bytes) {
		t.Errorf("the layer: %d bytes, %v", len(layer), err)
	}
	if code, _, err := weir("s3://" + bucket + "/none"); code != exitFailed || !strings.Contains(err, "holds no registry: there is no docker/registry/v2 in it") {
		t.Errorf("where there is none: %d: %s", code, err)
	}
	if code, _, err := weir("s3:///x"); code != exitUsage || !strings.Contains(err, "the bucket is missing") {
		t.Errorf("without a bucket: %d: %s", code, err)
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	data(img.Blobs[1].Digest, origintest.Bytes(2, 6<<20))
	if code, _, err := weir("s3://" + bucket + "/old/registry"); code != exitFailed || !strings.Contains(err, "blob "+img.Blobs[1].Digest.String()+": is corrupt") {
		t.Errorf("corrupt: %d: %s", code, err)
	}
}

// A running server takes over and gives away itself, by what commands tell it: what it serves
// comes into a layout, and what is in a layout is served.
func TestImportBesideServer(t *testing.T) {
	one, other := newProcess(t, t.TempDir(), ""), newProcess(t, t.TempDir(), "")
	one.start()
	other.start()
	img, layout := origintest.Image([]byte(`{}`), origintest.Bytes(1, 300_000)), filepath.Join(t.TempDir(), "layout")
	img.Push(t, one.registry(), "team/app", "v1")
	for _, x := range []struct {
		what []string
		want string
	}{
		{[]string{"export", "--layout", layout, "team/app:v1", "--config", one.file}, "team/app:v1: " + img.Digest().String() + ", 1 manifest, 2 blobs"},
		{[]string{"import", "--layout", layout, "--config", other.file}, "imported: 1 manifest, 1 tag, 2 blobs"},
		{[]string{"import", "--layout", layout, "--config", other.file}, "imported: nothing to do"},
	} {
		var out, err bytes.Buffer
		if code := run(t.Context(), x.what, &out, &err); code != exitDone || !strings.Contains(out.String(), x.want) {
			t.Errorf("%s: %d: %s%s", x.what[0], code, &out, &err)
		}
	}
	repo := origintest.Repo(t, "team/app")
	m, err := other.registry().Manifest(t.Context(), repo, origintest.Ref(t, "v1"))
	if err != nil || m.Digest != img.Digest() {
		t.Errorf("%s, %v", m.Digest, err)
	}
	for _, b := range img.Blobs {
		if err := oracletest.ReadBlob(t.Context(), other.registry(), repo, b.Digest); err != nil {
			t.Error(err)
		}
	}
	for _, p := range []*process{one, other} {
		p.stop()
		p.saidNothingBad()
	}
}
