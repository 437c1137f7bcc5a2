package origin

import (
	"fmt"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Platform is what an image runs on, as people write it: os/arch, or
// os/arch/variant. It is comparable; the zero Platform is none.
type Platform struct{ os, arch, variant string }

// ParsePlatform parses os/arch or os/arch/variant. Its errors are for whoever wrote it.
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	ok := len(s) <= maxTag && (len(parts) == 2 || len(parts) == 3)
	for _, part := range parts {
		ok = ok && part != ""
		for i := range len(part) {
			ok = ok && (isAlnum(part[i]) || strings.IndexByte("._-", part[i]) >= 0)
		}
	}
	if !ok {
		return Platform{}, fmt.Errorf("%s is no platform: write os/arch or os/arch/variant, such as linux/amd64", Quote(s))
	}
	p := Platform{os: parts[0], arch: parts[1]}
	if len(parts) == 3 {
		p.variant = parts[2]
	}
	return p, nil
}

// String gives it as it is written.
func (p Platform) String() string {
	switch {
	case p == Platform{}:
		return ""
	case p.variant == "":
		return p.os + "/" + p.arch
	default:
		return p.os + "/" + p.arch + "/" + p.variant
	}
}

// MarshalText implements [encoding.TextMarshaler].
func (p Platform) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *Platform) UnmarshalText(text []byte) error {
	parsed, err := ParsePlatform(string(text))
	if err == nil {
		*p = parsed
	}
	return err
}

// Match reports whether an index means p by what it says of a manifest. A Platform
// without a variant matches every variant, and nil matches nothing.
func (p Platform) Match(of *v1.Platform) bool {
	return of != nil && of.OS == p.os && of.Architecture == p.arch && (p.variant == "" || of.Variant == p.variant)
}
