package origin

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Explanation says what weir would do with a request for an image, and why. The
// JSON form is that of /v2/_ext/explain.
type Explanation struct {
	Image      string              `json:"image"`
	Repository string              `json:"repository"` // its full name
	Route      string              `json:"route"`      // mirrored or local
	Upstream   string              `json:"upstream,omitempty"`
	Endpoints  []ExplainedEndpoint `json:"endpoints,omitempty"`
	Reference  string              `json:"reference"`
	Tag        *ExplainedTag       `json:"tag,omitempty"`
	Manifest   *ExplainedManifest  `json:"manifest,omitempty"`
	Manifests  []ExplainedManifest `json:"manifests,omitempty"` // what an index names
	Blobs      []ExplainedBlob     `json:"blobs,omitempty"`
	Shortened  bool                `json:"shortened,omitempty"` // it names more than those
}

// ExplainedEndpoint is where an upstream is asked.
type ExplainedEndpoint struct {
	Host string `json:"host"`
}

// ExplainedTag is what is remembered of a tag.
type ExplainedTag struct {
	Digest    digest.Digest `json:"digest"`
	Checked   *time.Time    `json:"checked,omitempty"`
	Endpoint  string        `json:"endpoint,omitempty"` // host of the one that said so
	Age       string        `json:"age,omitempty"`      // since the check
	TTL       string        `json:"ttl,omitempty"`
	Fresh     bool          `json:"fresh"`
	Immutable bool          `json:"immutable"`
	Why       string        `json:"why"`
}

// ExplainedManifest is a manifest, and whether it is here.
type ExplainedManifest struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"media_type"`
	Size      int64         `json:"size"`
	Platform  string        `json:"platform,omitempty"`
	Cached    bool          `json:"cached"`
}

// ExplainedBlob is a blob of an image, and where it is: stored, filling (received
// bytes so far) or upstream.
type ExplainedBlob struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"media_type"`
	Size      int64         `json:"size"`
	Where     string        `json:"where"`
	Received  int64         `json:"received,omitempty"`
	Endpoint  string        `json:"endpoint,omitempty"` // host of the one that it comes from
	LastUse   *time.Time    `json:"last_use,omitempty"` // of it or of its image, as far as that is known
}
