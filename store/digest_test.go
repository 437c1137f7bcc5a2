package store_test

import (
	"encoding"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

var digests = map[digest.Digest]bool{
	digest.FromString("x"):                true,
	digest.SHA512.FromString("x"):         true,
	digest.SHA384.FromString("x"):         false,
	"":                                    false,
	":":                                   false,
	"sha256:":                             false,
	"sha256:abc":                          false,
	digest.FromString("x") + "0":          false,
	digest.FromString("x")[:70]:           false,
	"sha512:" + digest.Digest(hexOf(64)):  false,
	"sha256:" + digest.Digest(hexOf(128)): false,
	"sha256-" + digest.Digest(hexOf(64)):  false,
	"SHA256:" + digest.Digest(hexOf(64)):  false,
	"sha256:" + digest.Digest(strings.ToUpper(hexOf(64))):                 false,
	"sha256:../" + digest.Digest(hexOf(61)):                               false,
	"sha256:" + digest.Digest(hexOf(63)) + "g":                            false,
	"sha256:" + digest.Digest(hexOf(63)) + "\x00":                         false,
	"sha512:" + digest.Digest(hexOf(63)) + "/" + digest.Digest(hexOf(64)): false,
}

func hexOf(n int) string { return strings.Repeat("abcdef01", 16)[:n] }

func TestValidDigest(t *testing.T) {
	for d, want := range digests {
		if store.ValidDigest(d) != want {
			t.Errorf("ValidDigest(%q) = %v, want %v", d, !want, want)
		}
	}
}

// What is valid here is valid for go-digest, and is a file name.
func FuzzValidDigest(f *testing.F) {
	for d := range digests {
		f.Add(string(d))
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := digest.Digest(s)
		valid := d.Validate() == nil && (d.Algorithm() == digest.SHA256 || d.Algorithm() == digest.SHA512)
		if store.ValidDigest(d) != valid {
			t.Errorf("ValidDigest(%q) = %v, want %v", s, !valid, valid)
		}
	})
}

func TestHash(t *testing.T) {
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		half := store.Hash(alg)
		half.Write([]byte("some "))
		state, err := half.(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		whole := store.Hash(alg)
		if err := whole.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
			t.Fatal(err)
		}
		whole.Write([]byte("content"))
		if got := digest.NewDigest(alg, whole); got != alg.FromString("some content") {
			t.Errorf("%s over a saved state is %s", alg, got)
		}
	}
	for _, alg := range []digest.Algorithm{"", "md5", digest.SHA384, "SHA256"} {
		if store.Hash(alg) != nil {
			t.Errorf("%q has a hash", alg)
		}
	}
}
