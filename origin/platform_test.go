package origin_test

import (
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

func TestPlatform(t *testing.T) {
	armv7 := &v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	for s, want := range map[string]bool{"linux/arm": true, "linux/arm/v7": true, "linux/arm/v6": false, "linux/arm64": false, "windows/arm": false} {
		p, err := origin.ParsePlatform(s)
		if err != nil || p.String() != s || p.Match(armv7) != want || p.Match(nil) {
			t.Errorf("%s: %v, %q, %v, %v", s, err, p, p.Match(armv7), p.Match(nil))
		}
	}
	for _, bad := range []string{"", "linux", "linux/", "/amd64", "a/b/c/d", "linux/amd64/", "linux/AMD64", "linux/am d", "all"} {
		if p, err := origin.ParsePlatform(bad); err == nil {
			t.Errorf("%q is %q", bad, p)
		}
	}
}

func FuzzPlatform(f *testing.F) {
	for _, s := range []string{"linux/amd64", "linux/arm/v7", "a/b/c/d", "/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := origin.ParsePlatform(s)
		if err == nil && p.String() != s {
			t.Errorf("%q reads back as %q", s, p)
		}
	})
}
