package serve

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// query reads parameters, each of which may be given once.
type query url.Values

// one gives a parameter; "" if it is absent or empty. A parameter that is given
// twice could be read in two ways.
func (q query) one(key string) (string, error) {
	values := q[key]
	if len(values) > 1 {
		return "", badQuery("%s is given more than once", key)
	}
	if len(values) == 0 {
		return "", nil
	}
	return values[0], nil
}

func badQuery(format string, args ...any) error {
	return origin.Errorf(origin.ErrUnsupported, format, args...).WithStatus(http.StatusBadRequest)
}

func (c *Call) parseQuery(method string, q query) error {
	ns, err := q.one("ns")
	if err != nil {
		return err
	}
	if ns != "" && !validHost(ns) {
		return origin.Errorf(origin.ErrNameInvalid, "ns %s is no host", origin.Quote(ns))
	}
	c.Namespace = ns
	switch c.Kind {
	case KindExtension:
		c.Query = url.Values(q)
	case KindTags, KindCatalog, KindReferrers:
		return c.parsePage(q)
	case KindUploads:
		if method == http.MethodPost {
			return c.parseStart(q)
		}
	case KindUpload:
		if method == http.MethodPut {
			return c.parseFinish(q)
		}
	case KindManifest:
		if method == http.MethodPut {
			return c.parseTags(q)
		}
	}
	return nil
}

// parseStart reads what an upload's start may say: mount and from, digest (all in
// one request), digest-algorithm.
func (c *Call) parseStart(q query) error {
	var err error
	if c.Digest, err = q.digest("digest"); err != nil {
		return err
	}
	if c.Mount, err = q.digest("mount"); err != nil {
		return err
	}
	from, err := q.one("from")
	if err != nil {
		return err
	}
	if from != "" {
		if c.From, err = origin.ParseRepo(from); err != nil {
			return err
		}
	}
	alg, err := q.one("digest-algorithm")
	if err != nil {
		return err
	}
	switch a := digest.Algorithm(alg); {
	case a == digest.SHA256 || a == digest.SHA512:
		c.Algorithm = a
	case alg != "":
		return origin.Errorf(origin.ErrDigestInvalid, "digest-algorithm %s is neither sha256 nor sha512", origin.Quote(alg))
	case c.Digest != "":
		c.Algorithm = c.Digest.Algorithm()
	case c.Mount != "":
		c.Algorithm = c.Mount.Algorithm()
	default:
		c.Algorithm = digest.Canonical
	}
	return nil
}

func (c *Call) parseFinish(q query) error {
	var err error
	if c.Digest, err = q.digest("digest"); err != nil {
		return err
	}
	if c.Digest == "" {
		return origin.Errorf(origin.ErrDigestInvalid, "the digest parameter is missing")
	}
	return nil
}

func (c *Call) parseTags(q query) error {
	tags := q["tag"]
	if len(tags) > maxTags {
		return origin.Errorf(origin.ErrUnsupported, "at most %d tags in one push", maxTags).WithStatus(http.StatusRequestURITooLong)
	}
	for _, tag := range tags {
		ref, err := origin.ParseTag(tag)
		if err != nil {
			return err
		}
		c.Tags = append(c.Tags, ref)
	}
	return nil
}

// parsePage reads n, last and artifactType. last is an item of the listing, or a
// mark, as a Link names it.
func (c *Call) parsePage(q query) error {
	n, err := q.one("n")
	if err != nil {
		return err
	}
	if c.Page.N, err = parseN(n); err != nil {
		return err
	}
	last, err := q.one("last")
	if err != nil {
		return err
	}
	if last != "" {
		switch {
		case origin.IsMark(last):
		case c.Kind == KindTags:
			_, err = origin.ParseTag(last)
		case c.Kind == KindCatalog:
			_, err = origin.ParseRepo(last)
		case c.Kind == KindReferrers:
			_, err = origin.ParseDigest(last)
		}
		if err != nil {
			return err
		}
		c.Page.After = last
	}
	if c.Kind != KindReferrers {
		return nil
	}
	c.ArtifactType, err = q.one("artifactType")
	if err == nil && len(c.ArtifactType) > maxText {
		return badQuery("artifactType is longer than %d bytes", maxText)
	}
	return err
}

// parseN reads a page's length: what is more than a page holds, whatever its size,
// asks for a whole page.
func parseN(s string) (int, error) {
	if s == "" {
		return maxPage, nil
	}
	if strings.Trim(s, "0123456789") != "" {
		return 0, badQuery("n %s is not a number of items", origin.Quote(s))
	}
	n := 0
	for i := range len(s) {
		n = min(n*10+int(s[i]-'0'), maxPage)
	}
	return n, nil
}

func (q query) digest(key string) (digest.Digest, error) {
	s, err := q.one(key)
	if s == "" || err != nil {
		return "", err
	}
	return origin.ParseDigest(s)
}
