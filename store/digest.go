package store

import (
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"github.com/opencontainers/go-digest"
)

// Hash gives a new hash of alg, or nil if blobs are not named by alg. Its state
// can be saved and restored: it is an [encoding.BinaryMarshaler] and an
// [encoding.BinaryUnmarshaler].
func Hash(alg digest.Algorithm) hash.Hash {
	switch alg {
	case digest.SHA256:
		return sha256.New()
	case digest.SHA512:
		return sha512.New()
	default:
		return nil
	}
}

// ValidDigest reports whether d can name a blob: sha256 or sha512, and as many
// lower-case hex digits as the algorithm has. Backends build paths of digests
// that pass, and of no others.
func ValidDigest(d digest.Digest) bool {
	var alg digest.Algorithm
	switch len(d) {
	case len("sha256:") + 2*sha256.Size:
		alg = digest.SHA256
	case len("sha512:") + 2*sha512.Size:
		alg = digest.SHA512
	default:
		return false
	}
	n := len(alg)
	if string(d[:n]) != string(alg) || d[n] != ':' {
		return false
	}
	for i := n + 1; i < len(d); i++ {
		if c := d[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
