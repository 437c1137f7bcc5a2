package serve

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// Kind says which resource of the API a path names.
type Kind int

// The resources of the API.
const (
	KindNone      Kind = iota // none
	KindBase                  // /v2/
	KindCatalog               // /v2/_catalog
	KindExtension             // /v2/_ext/{extension}
	KindTags                  // /v2/{name}/tags/list
	KindManifest              // /v2/{name}/manifests/{reference}
	KindBlob                  // /v2/{name}/blobs/{digest}
	KindUploads               // /v2/{name}/blobs/uploads/
	KindUpload                // /v2/{name}/blobs/uploads/{id}
	KindReferrers             // /v2/{name}/referrers/{digest}
)

// Call is what a request asks for: its method, path and query as typed values,
// which exist only if they are valid. Fields that the resource does not have are
// zero.
type Call struct {
	Kind      Kind
	Prefix    string      // path component before /v2/: the namespace in another spelling
	Namespace string      // ns
	Repo      origin.Repo // as the client names it
	Ref       origin.Ref  // of a manifest
	Digest    digest.Digest
	ID        string // of an upload
	Extension string

	Mount        digest.Digest    // mount: the blob to take from another repository
	From         origin.Repo      // from: where to take it; zero = anywhere
	Algorithm    digest.Algorithm // digest-algorithm, or that of the digest that is known at the start
	Tags         []origin.Ref     // tag: further names of a manifest that is pushed
	Page         origin.Page      // n and last
	ArtifactType string           // artifactType
	Query        url.Values       // of an extension, as sent
}

const (
	// maxPage is the most that one page of a listing holds, and what a page holds
	// if the client does not say.
	maxPage = 1000
	// maxTags is the most tag parameters of one push (the specification: at least 10).
	maxTags = 100
	// maxText bounds what has no grammar: hosts, artifact types.
	maxText = 255
)

// Parse reads a request's method and URL; it looks at nothing else. Of a URL that
// is invalid it gives as much as it understood, so that a failure can be counted
// under its route. The path is taken as it was sent: nothing in it is decoded.
//
// Errors: [origin.ErrNameInvalid], [origin.ErrDigestInvalid],
// [origin.ErrTagInvalid], [origin.ErrUploadUnknown], and [origin.ErrUnsupported]
// with status 404 (no such resource), 400 (a query that is none) or 414 (too many
// tags).
func Parse(method string, u *url.URL) (Call, error) {
	c, err := parsePath(u.EscapedPath())
	if err != nil {
		return c, err
	}
	if u.RawQuery == "" {
		return c, c.parseQuery(method, nil) // what most requests send costs nothing
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return c, origin.Errorf(origin.ErrUnsupported, "malformed query").WithStatus(http.StatusBadRequest)
	}
	return c, c.parseQuery(method, query(values))
}

func noSuchResource() error {
	return origin.Errorf(origin.ErrUnsupported, "no such resource").WithStatus(http.StatusNotFound)
}

func parsePath(path string) (Call, error) {
	if strings.ContainsAny(path, `%\`) {
		return Call{}, origin.Errorf(origin.ErrNameInvalid, "a path is made of letters, digits and ._-/: alone")
	}
	c, rest, err := parsePrefix(path)
	switch {
	case err != nil:
		return c, err
	case rest == "":
		c.Kind = KindBase
		return c, nil
	case rest == "_catalog" && c.Prefix == "":
		c.Kind = KindCatalog
		return c, nil
	case strings.HasPrefix(rest, "_ext/") && c.Prefix == "":
		c.Kind = KindExtension
		c.Extension = rest[len("_ext/"):]
		if !validExtension(c.Extension) {
			return c, noSuchResource()
		}
		return c, nil
	}
	name, last, err := c.parseKind(rest)
	if err != nil {
		return c, err
	}
	if c.Repo, err = origin.ParseRepo(name); err != nil {
		return c, err
	}
	return c, c.parseLast(last)
}

// parsePrefix takes "/v2/" or "/<prefix>/v2/" off the path.
func parsePrefix(path string) (c Call, rest string, err error) {
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if first != "v2" {
		if !validHost(first) {
			return c, "", noSuchResource()
		}
		c.Prefix = first
		first, rest, _ = strings.Cut(rest, "/")
	}
	if first != "v2" || !strings.HasPrefix(path, "/") {
		return c, "", noSuchResource()
	}
	return c, rest, nil
}

// parseKind finds the resource by the path's end, since names may contain the
// words "manifests", "blobs" and so on. It gives the repository's name and what
// follows the word.
func (c *Call) parseKind(rest string) (name, last string, err error) {
	head, last, _ := cutLast(rest)
	switch {
	case last == "uploads":
		// The slash at the end is the specification's; clients forget it.
		if name, ok := cutWord(head, "blobs"); ok {
			c.Kind = KindUploads
			return name, "", nil
		}
	case last == "list":
		if name, ok := cutWord(head, "tags"); ok {
			c.Kind = KindTags
			return name, "", nil
		}
	}
	if blobs, ok := cutWord(head, "uploads"); ok {
		if name, ok := cutWord(blobs, "blobs"); ok {
			c.Kind = KindUpload
			if last == "" {
				c.Kind = KindUploads
			}
			return name, last, nil
		}
	}
	for _, k := range []struct {
		word string
		kind Kind
	}{{"manifests", KindManifest}, {"blobs", KindBlob}, {"referrers", KindReferrers}} {
		if name, ok := cutWord(head, k.word); ok {
			c.Kind = k.kind
			return name, last, nil
		}
	}
	return "", "", noSuchResource()
}

func (c *Call) parseLast(last string) (err error) {
	switch c.Kind {
	case KindManifest:
		c.Ref, err = origin.ParseRef(last)
	case KindBlob, KindReferrers:
		c.Digest, err = origin.ParseDigest(last)
	case KindUpload:
		if !validID(last) {
			return origin.Errorf(origin.ErrUploadUnknown, "no upload is called %s", origin.Quote(last))
		}
		c.ID = last
	}
	return err
}

// cutLast cuts s at its last slash.
func cutLast(s string) (head, last string, found bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// cutWord takes a path component off the end of s.
func cutWord(s, word string) (head string, ok bool) {
	head, last, _ := cutLast(s)
	return head, last == word
}

// validID reports whether s can be an upload's: what registries make of a store's
// 128 bits in hex, whatever they append to it.
func validID(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_':
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxText
}

// validHost reports whether s can be a host and port, or the spelling of one as a
// path component.
func validHost(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && (c == '.' || c == '-' || c == '_' || c == ':' || c == ']'), c == '[' && i == 0:
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxText
}

func validExtension(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', i > 0 && (c == '.' || c == '-' || c == '_'):
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxText
}
