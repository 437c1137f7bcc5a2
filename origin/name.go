package origin

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// maxName is the longest repository name, in bytes. The specification lets
// clients limit host and name together to 255.
const maxName = 255

// maxTag is the longest tag, in bytes (OCI Distribution 1.1, "Pulling manifests").
const maxTag = 128

// Repo is the name of a repository: valid, comparable, usable as a map key. The
// zero Repo names none.
type Repo struct{ name string }

// ParseRepo parses a repository name: path components of lower-case letters and
// digits, joined by ".", "_", "__" or any number of "-", at most 255 bytes in all
// (OCI Distribution 1.1, "Pulling manifests"). Errors: ErrNameInvalid.
func ParseRepo(s string) (Repo, error) {
	if !validName(s) {
		return Repo{}, Errorf(ErrNameInvalid, "invalid repository name %s", Quote(s))
	}
	return Repo{name: s}, nil
}

// String gives the name.
func (r Repo) String() string { return r.name }

// IsZero reports whether r names no repository.
func (r Repo) IsZero() bool { return r.name == "" }

// First is the name's first path component.
func (r Repo) First() string {
	first, _, _ := strings.Cut(r.name, "/")
	return first
}

// Rest is the repository named by all components but the first; zero if there
// is only one.
func (r Repo) Rest() Repo {
	_, rest, _ := strings.Cut(r.name, "/")
	return Repo{name: rest}
}

// Under is the repository of r's name below the path prefix.
// Errors: ErrNameInvalid.
func (r Repo) Under(prefix string) (Repo, error) { return ParseRepo(prefix + "/" + r.name) }

func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := 0; i < len(s); {
		// A component: alphanumerics with separators between them.
		start := i
		for i < len(s) && isAlnum(s[i]) {
			i++
		}
		if i == start {
			return false
		}
		if i == len(s) {
			return true
		}
		switch s[i] {
		case '/', '.':
			i++
		case '_':
			i++
			if i < len(s) && s[i] == '_' {
				i++
			}
		case '-':
			for i < len(s) && s[i] == '-' {
				i++
			}
		default:
			return false
		}
	}
	return false // ends with a separator
}

func isAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// Ref names a manifest inside a repository, by tag or by digest. It is
// comparable; the zero Ref names nothing.
type Ref struct {
	tag    string
	digest digest.Digest
}

// ParseRef parses a tag or a digest: whatever contains a colon is a digest.
// Errors: ErrDigestInvalid, ErrTagInvalid.
func ParseRef(s string) (Ref, error) {
	if strings.Contains(s, ":") {
		d, err := ParseDigest(s)
		return Ref{digest: d}, err
	}
	return ParseTag(s)
}

// ParseTag parses a tag: a letter, digit or "_", then at most 127 of those, "."
// and "-" (OCI Distribution 1.1, "Pulling manifests"). Errors: ErrTagInvalid.
func ParseTag(s string) (Ref, error) {
	ok := 0 < len(s) && len(s) <= maxTag && s[0] != '.' && s[0] != '-'
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = isAlnum(c) || 'A' <= c && c <= 'Z' || c == '_' || c == '.' || c == '-'
	}
	if !ok {
		return Ref{}, Errorf(ErrTagInvalid, "invalid tag %s", Quote(s))
	}
	return Ref{tag: s}, nil
}

// ByDigest is the Ref of a digest.
func ByDigest(d digest.Digest) Ref { return Ref{digest: d} }

// Tag is the tag, or "" if the Ref is a digest.
func (r Ref) Tag() string { return r.tag }

// Digest is the digest, or "" if the Ref is a tag.
func (r Ref) Digest() digest.Digest { return r.digest }

// String gives the tag or the digest.
func (r Ref) String() string {
	if r.tag != "" {
		return r.tag
	}
	return r.digest.String()
}

// ParseDigest parses a sha256 or sha512 digest in its canonical lower-case form.
// Errors: ErrDigestInvalid.
func ParseDigest(s string) (digest.Digest, error) {
	alg, hex, ok := strings.Cut(s, ":")
	if ok {
		switch digest.Algorithm(alg) {
		case digest.SHA256:
			ok = len(hex) == 64
		case digest.SHA512:
			ok = len(hex) == 128
		default:
			ok = false
		}
	}
	for i := 0; ok && i < len(hex); i++ {
		ok = '0' <= hex[i] && hex[i] <= '9' || 'a' <= hex[i] && hex[i] <= 'f'
	}
	if !ok {
		return "", Errorf(ErrDigestInvalid, "invalid digest %s: sha256 or sha512 and lower-case hex", Quote(s))
	}
	return digest.Digest(s), nil
}

// Quote makes a client's input fit for a message: quoted, escaped and short.
func Quote(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
