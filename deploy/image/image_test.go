package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

var aRelease = release{version: "v1", commit: "abc", created: time.Unix(1_700_000_000, 0).UTC()}

// newKey is a private key, and its file in each form that there is.
func newKey(t *testing.T) (*ecdsa.PrivateKey, map[string][]byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	sec1, err2 := x509.MarshalECPrivateKey(key)
	sealed, err3 := encrypted.Encrypt(pkcs8, []byte("pw"))
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for kind, der := range map[string][]byte{"PRIVATE KEY": pkcs8, "EC PRIVATE KEY": sec1, "ENCRYPTED SIGSTORE PRIVATE KEY": sealed} {
		files[kind] = pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	return key, files
}

func write(t *testing.T, text []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestKeys: each form of a key is the same key, and what is no key is said.
func TestKeys(t *testing.T) {
	key, files := newKey(t)
	for kind, text := range files {
		s, err := openSigner(write(t, text), "pw")
		if err != nil || !s.key.Equal(key) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, err := openSigner(write(t, files["ENCRYPTED SIGSTORE PRIVATE KEY"]), "other"); err == nil || !strings.Contains(err.Error(), "COSIGN_PASSWORD") {
		t.Errorf("with another password: %v", err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"hello": "is not PEM",
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})): "CERTIFICATE",
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})): "P-256",
	} {
		if _, err := openSigner(write(t, []byte(text)), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v", text, err)
		}
	}
}

// verifier believes a key.
type verifier struct {
	dsse.Verifier
	key *ecdsa.PublicKey
}

func (v verifier) KeyID() (string, error) { return "", nil }

func (v verifier) Public() crypto.PublicKey { return v.key }

func (v verifier) Verify(_ context.Context, data, sig []byte) error {
	if sum := sha256.Sum256(data); !ecdsa.VerifyASN1(v.key, sum[:], sig) {
		return errors.New("not signed with it")
	}
	return nil
}

// TestSign: a signature is of the digest, by the key, and the same each time.
func TestSign(t *testing.T) {
	key, _ := newKey(t)
	what := v1.Descriptor{MediaType: types.OCIImageIndex, Size: 7, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}}
	var texts [2]string
	for i := range texts {
		image, err := (&signer{key}).sign(t.Context(), aRelease, what)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := image.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if s := manifest.Subject; s == nil || s.Digest != what.Digest || s.Size != what.Size || s.MediaType != what.MediaType {
			t.Errorf("it refers to %+v", s)
		}
		texts[i] = string(blob(t, image))
	}
	if texts[0] != texts[1] {
		t.Errorf("two signatures are %s and %s", texts[0], texts[1])
	}
	var b sigstoreBundle
	if err := json.Unmarshal([]byte(texts[0]), &b); err != nil {
		t.Fatal(err)
	}
	believe := func(k *ecdsa.PrivateKey) error {
		v, err := dsse.NewEnvelopeVerifier(verifier{key: &k.PublicKey})
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(t.Context(), b.Envelope)
		return err
	}
	if err := believe(key); err != nil {
		t.Error(err)
	}
	if other, _ := newKey(t); believe(other) == nil {
		t.Error("it is believed with any key")
	}
	payload, err := b.Envelope.DecodeB64Payload()
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + what.Digest.Hex +
		`"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`; string(payload) != want {
		t.Errorf("it says %s", payload)
	}
}

// blob is what an artifact says.
func blob(t *testing.T, artifact v1.Image) []byte {
	t.Helper()
	layers, err := artifact.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	r, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// TestLayout: what is written is a whole layout, which holds the index and all that
// refers to it, by the name of the release; and nothing else is written over.
func TestLayout(t *testing.T) {
	self, err := os.Executable() // a Go program that is there
	if err != nil {
		t.Fatal(err)
	}
	key, _ := newKey(t)
	b, err := build(t.Context(), aRelease, &signer{key}, func(string) string { return self })
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := b.write(dir); err != nil {
		t.Fatal(err)
	}
	root, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := root.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for i, d := range list.Manifests {
		kinds[string(d.MediaType)+" "+d.ArtifactType]++
		if (i == 0) != (d.Annotations[annotationRefName] == "v1") {
			t.Errorf("entry %d has annotations %v", i, d.Annotations)
		}
	}
	for kind, want := range map[string]int{
		string(types.OCIImageIndex) + " ":                           1,
		string(types.OCIManifestSchema1) + " " + string(sbomType):   2,
		string(types.OCIManifestSchema1) + " " + string(bundleType): 3,
	} {
		if kinds[kind] != want {
			t.Errorf("the layout has %v", kinds)
		}
	}
	index, err := root.ImageIndex(list.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	if err := b.write(dir); err == nil {
		t.Error("it is written over another one")
	}
}

// TestArguments: what cannot be meant is said before anything is made, and no registry is guessed.
func TestArguments(t *testing.T) {
	for _, x := range []struct {
		args []string
		says string
	}{
		{[]string{"-push", "nonsense"}, `-push "nonsense": `},
		{[]string{"-push", "infra/weir:v1"}, "write REGISTRY/REPOSITORY:TAG"},
		{[]string{"-push", "weir.corp.example/infra/weir"}, "write REGISTRY/REPOSITORY:TAG"},
		{[]string{"-push", "https://weir.corp.example/infra/weir:v1"}, "write REGISTRY/REPOSITORY:TAG"},
		{[]string{"-push", "weir.corp.example/infra/weir@sha256:" + strings.Repeat("a", 64)}, "write REGISTRY/REPOSITORY:TAG"},
		{[]string{"-key", "/none"}, "-key: open /none: "},
		{[]string{"-licences", "/none", "-out", "x"}, "-licences: open /none: "},
		{[]string{"-binaries", "/none", "-licences", "image_test.go", "-out", "x"}, "/none/linux-amd64/weir"},
		{[]string{"x"}, `what is "x"?`},
	} {
		if err := run(t.Context(), x.args, io.Discard); err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%q: %v, want %q", x.args, err, x.says)
		}
	}
}
