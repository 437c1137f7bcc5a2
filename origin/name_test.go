package origin_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

var (
	hex256 = strings.Repeat("0123456789abcdef", 4)
	hex512 = strings.Repeat(hex256, 2)
)

// traps are what no name, tag or digest is, wherever it is put.
var traps = []string{
	"", "/", "//", ".", "..", "../a", "a/..", "a/../b", "a/./b", "/a", "a/", "a//b", `a\b`, "a b", "a\x00b",
	"a\r\nb", "a%2fb", "%2e%2e", "a%00", "é", "a\u202eb", "\xc0\xae\xc0\xae", "a:b:c", "@", "a@b", "~", "*", "a?n=1", "a#b",
	"-a", ".a", "sha256:", "sha256:..", "sha256:" + hex256[1:], "sha256:" + hex256 + "0", "sha256:" + strings.ToUpper(hex256),
	"sha256:../" + hex256[3:], "SHA256:" + hex256, "sha256-" + hex256 + "/", "sha512:" + hex256, "sha384:" + hex256 + hex256[:32],
	"md5:" + hex256[:32], "sha256+b64:" + hex256, "sha256::" + hex256, " sha256:" + hex256, "sha256:" + hex256 + "\n",
}

func TestParseRepo(t *testing.T) {
	for _, s := range []string{
		"a", "0", "a/b", "a/b/c", "team/app", "a.b", "a_b", "a__b", "a-b", "a---b", "a0/0b", "docker.io/library/nginx",
		"registry.corp_5000/x", strings.Repeat("a", 255), strings.Repeat("a/", 127) + "a",
	} {
		if r, err := origin.ParseRepo(s); err != nil || r.String() != s || r.IsZero() {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range append([]string{
		"A", "aB", "a.", "a..b", "a._b", "a___b", "a_", "_a", "a-", "a/-b", "a/b-", "a-/b", "a./b", "_repos", "_catalog", "a/_b", "a:b",
		strings.Repeat("a", 256), strings.Repeat("a/", 128) + "a",
	}, traps...) {
		r, err := origin.ParseRepo(s)
		if !errors.Is(err, origin.ErrNameInvalid) || !r.IsZero() {
			t.Errorf("%q: %v, %v", s, r, err)
		}
	}
}

func TestRepoParts(t *testing.T) {
	for _, c := range []struct{ name, first, rest string }{
		{"a", "a", ""},
		{"a/b", "a", "b"},
		{"docker.io/library/nginx", "docker.io", "library/nginx"},
	} {
		r, err := origin.ParseRepo(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if r.First() != c.first || r.Rest().String() != c.rest || r.Rest().IsZero() != (c.rest == "") {
			t.Errorf("%s: %q and %q", c.name, r.First(), r.Rest())
		}
		if c.rest == "" {
			continue
		}
		if back, err := r.Rest().Under(c.first); back != r || err != nil {
			t.Errorf("%s under %s is %s, %v", c.rest, c.first, back, err)
		}
	}
	r, err := origin.ParseRepo("a")
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "/", "..", "A", strings.Repeat("a", 254)} {
		if got, err := r.Under(prefix); !errors.Is(err, origin.ErrNameInvalid) || !got.IsZero() {
			t.Errorf("under %q: %s, %v", prefix, got, err)
		}
	}
}

func TestParseTag(t *testing.T) {
	for _, s := range []string{"a", "Z", "0", "_", "__", "latest", "1.27", "v1.2.3-rc.1", "a_b", "a..b", "sha256-" + hex256, strings.Repeat("a", 128)} {
		r, err := origin.ParseTag(s)
		if err != nil || r.Tag() != s || r.Digest() != "" || r.String() != s {
			t.Errorf("%q: %v", s, err)
		}
		if same, err := origin.ParseRef(s); same != r || err != nil {
			t.Errorf("%q as a reference: %v", s, err)
		}
	}
	for _, s := range append([]string{"a+b", "a,b", strings.Repeat("a", 129)}, traps...) {
		if r, err := origin.ParseTag(s); !errors.Is(err, origin.ErrTagInvalid) || r != (origin.Ref{}) {
			t.Errorf("%q: %v, %v", s, r, err)
		}
		r, err := origin.ParseRef(s)
		if !errors.Is(err, origin.ErrTagInvalid) && !errors.Is(err, origin.ErrDigestInvalid) || r != (origin.Ref{}) {
			t.Errorf("%q as a reference: %v, %v", s, r, err)
		}
	}
}

func TestParseDigest(t *testing.T) {
	for _, s := range []string{"sha256:" + hex256, "sha512:" + hex512} {
		d, err := origin.ParseDigest(s)
		if err != nil || d.String() != s {
			t.Errorf("%s: %v", s, err)
		}
		r, err := origin.ParseRef(s)
		if err != nil || r.Digest() != d || r.Tag() != "" || r.String() != s || r != origin.ByDigest(d) {
			t.Errorf("%s as a reference: %v", s, err)
		}
	}
	for _, s := range traps {
		if d, err := origin.ParseDigest(s); !errors.Is(err, origin.ErrDigestInvalid) || d != "" {
			t.Errorf("%q: %q, %v", s, d, err)
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"a":                       `"a"`,
		"a\r\nb\x00\x1b[31m":      `"a\r\nb\x00\x1b[31m"`,
		"\xff":                    `"\xff"`,
		strings.Repeat("a", 1000): `"` + strings.Repeat("a", 80) + `"…`,
	} {
		if got := origin.Quote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// specName is the grammar of names in the OCI Distribution specification 1.1.
var specName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

// FuzzParseRepo compares with the specification's expression and with what most
// clients parse names with.
func FuzzParseRepo(f *testing.F) {
	for _, s := range append([]string{"a", "a/b", "a__b", "a---b", "a.b/c-d", strings.Repeat("a", 256)}, traps...) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := origin.ParseRepo(s)
		if (err == nil) != (len(s) <= 255 && specName.MatchString(s)) {
			t.Errorf("%q: %v, the specification disagrees", s, err)
		}
		named, refErr := reference.WithName("registry.invalid/" + s)
		if err == nil && (refErr != nil || reference.Path(named) != s) {
			t.Errorf("%q is fine, and clients say %v", s, refErr)
		}
		if err != nil && refErr == nil && len(s) <= 255 {
			t.Errorf("%q: %v, and clients take it", s, err)
		}
		if err == nil && r.String() != s {
			t.Errorf("%q became %q", s, r)
		}
		if err == nil && !r.Rest().IsZero() {
			if back, err := r.Rest().Under(r.First()); back != r || err != nil {
				t.Errorf("%q is %q and %q, together %q (%v)", s, r.First(), r.Rest(), back, err)
			}
		}
	})
}

// FuzzParseRef compares with the tags that clients take.
func FuzzParseRef(f *testing.F) {
	for _, s := range append([]string{"latest", "1.27", "_x", strings.Repeat("a", 129), "sha256:" + hex256, "sha512:" + hex512}, traps...) {
		f.Add(s)
	}
	name, err := reference.WithName("registry.invalid/a")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := origin.ParseRef(s)
		if err != nil {
			if r != (origin.Ref{}) {
				t.Errorf("%q: %v, and it is %v", s, err, r)
			}
		} else if r.String() != s || (r.Tag() == "") == (r.Digest() == "") {
			t.Errorf("%q became tag %q, digest %q", s, r.Tag(), r.Digest())
		}
		_, refErr := reference.WithTag(name, s)
		if !strings.Contains(s, ":") && (err == nil) != (refErr == nil) {
			t.Errorf("%q as a tag: %v, and clients say %v", s, err, refErr)
		}
		_, tagErr := origin.ParseTag(s)
		if (tagErr == nil) != (refErr == nil) {
			t.Errorf("tag %q: %v, and clients say %v", s, tagErr, refErr)
		}
	})
}

// FuzzParseDigest compares with go-digest, which takes sha384 too.
func FuzzParseDigest(f *testing.F) {
	for _, s := range append([]string{"sha256:" + hex256, "sha512:" + hex512}, traps...) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := origin.ParseDigest(s)
		other, otherErr := digest.Parse(s)
		if otherErr == nil && other.Algorithm() == digest.SHA384 {
			otherErr = digest.ErrDigestUnsupported
		}
		if (err == nil) != (otherErr == nil) || err == nil && d.String() != s {
			t.Errorf("%q: %q, %v; go-digest says %v", s, d, err, otherErr)
		}
	})
}
