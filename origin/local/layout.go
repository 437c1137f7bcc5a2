package local

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

// Where records are. No repository's path component begins with "_", so that no
// key is a path prefix of another, whatever repositories are called:
//
//	r/_repos/<repo>/_                               the repository exists: something was pushed; stays when it is emptied
//	r/_uploads/key                                  what upload ids are signed with; made once
//	r/_condemned/<alg>/<hex>                        nothing seems to link the blob: {"removing":true} while its bytes go
//	r/~clock                                        written to see what the store's clock says; behind all others in a listing
//	r/<repo>/_b/<alg>/<hex>                         the blob is linked in the repository, {"mirrored":true} by a mirror only
//	r/<repo>/_d/<alg>/<hex>                         the manifest was deleted, and had referrers
//	r/<repo>/_m/<alg>/<hex>                         a manifest: header line, then its exact bytes
//	r/<repo>/_n/<alg>/<hex>/<tag>                   the tag came to name a manifest that was there before
//	r/<repo>/_r/<alg>/<hex>/<alg>/<hex>             a referrer's descriptor, below the digest of its subject
//	r/<repo>/_t/<tag>                               what the tag names
//
// Repositories have a listing of their own, or the catalog would have to walk
// every record of every repository.
const (
	prefixAll       = "r"
	prefixRepos     = "r/_repos"
	prefixCondemned = "r/_condemned"
	keyUploads      = "r/_uploads/key"
	keyClock        = "r/~clock"
)

func keyRepo(r origin.Repo) string { return prefixRepos + "/" + r.String() + "/_" }

func keyCondemned(d digest.Digest) string { return prefixCondemned + digestPath(d) }

// repoOfKey is the inverse of keyRepo.
func repoOfKey(key string) string {
	return strings.TrimSuffix(lastOfKey(key, prefixRepos), "/_")
}

func keyBlob(r origin.Repo, d digest.Digest) string     { return below(r, "_b") + digestPath(d) }
func keyDeleted(r origin.Repo, d digest.Digest) string  { return below(r, "_d") + digestPath(d) }
func keyManifest(r origin.Repo, d digest.Digest) string { return below(r, "_m") + digestPath(d) }
func prefixNames(r origin.Repo, d digest.Digest) string { return below(r, "_n") + digestPath(d) }
func prefixTags(r origin.Repo) string                   { return below(r, "_t") }
func keyTag(r origin.Repo, tag string) string           { return below(r, "_t") + "/" + tag }

func keyName(r origin.Repo, d digest.Digest, tag string) string {
	return prefixNames(r, d) + "/" + tag
}

func prefixReferrers(r origin.Repo, subject digest.Digest) string {
	return below(r, "_r") + digestPath(subject)
}

func keyReferrer(r origin.Repo, subject, d digest.Digest) string {
	return prefixReferrers(r, subject) + digestPath(d)
}

func below(r origin.Repo, kind string) string { return prefixAll + "/" + r.String() + "/" + kind }

func digestPath(d digest.Digest) string {
	return "/" + d.Algorithm().String() + "/" + d.Encoded()
}

// digestOfPath is the inverse of digestPath, but for the first slash.
func digestOfPath(path string) (digest.Digest, bool) {
	alg, hex, _ := strings.Cut(path, "/")
	d, err := origin.ParseDigest(alg + ":" + hex)
	return d, err == nil
}

// lastOfKey is what follows the prefix in a key below it.
func lastOfKey(key, prefix string) string { return strings.TrimPrefix(key, prefix+"/") }

// errDamaged is what a record is that does not hold what its key promises.
var errDamaged = origin.ErrDamaged

// manifestHeader is the first line of a manifest's record. Digest and size follow
// from the key and the bytes; what the bytes say themselves is not repeated, but
// for the subject, whose referrer entry a deletion must find.
type manifestHeader struct {
	MediaType string        `json:"mediaType"`
	PushedAt  time.Time     `json:"pushedAt"`
	Subject   digest.Digest `json:"subject,omitempty"`
	Mirrored  mark          `json:"mirrored,omitempty"`
	Sparse    bool          `json:"sparse,omitempty"`  // a mirror's that became a client's: see origin.Pushed
	Suspect   bool          `json:"suspect,omitempty"` // it may be discarded: see origin.Retirer
	Tags      []string      `json:"tags,omitempty"`    // those that it was first pushed with; later ones have records below _n
}

func encodeManifest(h manifestHeader, b []byte) ([]byte, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode manifest header: %w", err)
	}
	data := make([]byte, 0, len(head)+1+len(b))
	data = append(data, head...)
	data = append(data, '\n')
	return append(data, b...), nil
}

// decodeManifest reads the record of the manifest d, whose bytes must still have
// that digest. Of one that is damaged it gives what is well: header or bytes.
func decodeManifest(d digest.Digest, data []byte) (manifestHeader, []byte, error) {
	var h manifestHeader
	head, b, _ := bytes.Cut(data, []byte{'\n'})
	if d.Algorithm().FromBytes(b) != d {
		_ = json.Unmarshal(head, &h) // if it can be read
		return h, nil, fmt.Errorf("manifest %s: %w", d, errDamaged)
	}
	if json.Unmarshal(head, &h) != nil {
		return manifestHeader{}, b, fmt.Errorf("header of manifest %s: %w", d, errDamaged)
	}
	return h, b, nil
}

// tagRecord is what a tag names: enough to answer a HEAD without the manifest.
type tagRecord struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"`
	PushedAt  time.Time     `json:"pushedAt"`
}

func decodeTag(tag string, data []byte) (tagRecord, error) {
	var t tagRecord
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("tag %s: %w", tag, errDamaged)
	}
	if _, err := origin.ParseDigest(t.Digest.String()); err != nil {
		return t, fmt.Errorf("tag %s: %w", tag, errDamaged)
	}
	return t, nil
}

// names reports whether the tag names that manifest already.
func (t tagRecord) names(d v1.Descriptor) bool {
	return t.Digest == d.Digest && t.MediaType == d.MediaType && t.Size == d.Size
}
