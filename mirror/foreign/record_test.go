package foreign

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// What a record's name says is what it was made of, and nothing else is a name.
func FuzzRecordName(f *testing.F) {
	hex := strings.Repeat("a1", 32)
	for _, s := range []string{
		"deposit/docker.io/library/nginx/_m/sha256/" + hex, "deposit/a/_m/sha512/" + hex + hex,
		"deposit/a/_m/sha256/..", "deposit//_m/sha256/" + hex, "deposit/a/_m/_m/sha256/" + hex, "", "deposit/a",
		"a/_m/sha256/" + hex, "deposit/a/_m/sha256:" + hex,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := parseRecord(s)
		if err == nil && k.record() != s {
			t.Errorf("%q is read as %q", s, k.record())
		}
	})
}

func TestRecordName(t *testing.T) {
	repo, err := origin.ParseRepo("registry.corp_5000/team/app")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []digest.Digest{digest.FromString("x"), digest.SHA512.FromString("x")} {
		k := blobKey{repo, d}
		if got, err := parseRecord(k.record()); err != nil || got != k {
			t.Errorf("%s: %v, %v", k.record(), got, err)
		}
	}
}
