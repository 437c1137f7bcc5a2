package remote

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
)

const (
	maxPage    = 8 << 20  // bytes of one page of a listing
	maxListing = 16 << 20 // bytes of all pages that one answer of ours is made of
	maxPages   = 1000
	maxAsk     = 1000 // items of a page asked for: what the strictest take (ECR)
)

// errLong says that a listing has more pages than are read.
var errLong = wrongAnswer("the listing is too long")

// Tags implements origin.Reader. An upstream whose tags come in order is read as
// far as needed. One that has another order, or does not know where to begin, is
// read to its end each time: its order has nothing to do with ours.
func (r *Registry) Tags(ctx context.Context, repo origin.Repo, p origin.Page) (origin.List[string], error) {
	l, err := r.tags(ctx, repo, p)
	return l, r.failure(ctx, origin.ErrNameUnknown, err)
}

func (r *Registry) tags(ctx context.Context, repo origin.Repo, p origin.Page) (origin.List[string], error) {
	u := r.at(repo, "tags", "list")
	q := url.Values{"n": {strconv.Itoa(min(max(1, p.N), maxAsk))}}
	if p.After != "" {
		q.Set("last", p.After)
	}
	u.RawQuery = q.Encode()

	var tags []string
	ordered, last := true, p.After
	more, err := r.pages(ctx, r.pulling(repo), u, "application/json", func(_ *answer, b []byte) (bool, error) {
		var page struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(b, &page); err != nil {
			return false, wrongAnswer("malformed JSON")
		}
		for _, tag := range page.Tags {
			if _, err := origin.ParseTag(tag); err != nil {
				continue // no client could ask for it
			}
			ordered = ordered && last < tag
			last = tag
			tags = append(tags, tag)
		}
		return p.N > 0 && (!ordered || len(tags) < p.N), nil
	})
	if ordered && errors.Is(err, errLong) {
		more, err = true, nil // what is left comes after these
	}
	if err != nil {
		return origin.List[string]{}, err
	}
	return listed(r, tags, func(tag string) string { return tag }, p, more), nil
}

// Referrers implements origin.Reader: by the API, or where there is none by the
// tag that stands in for it (OCI Distribution 1.1, "Unavailable Referrers API").
// All pages are read, since an upstream's order is its own.
func (r *Registry) Referrers(
	ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, p origin.Page,
) (origin.List[origin.Descriptor], error) {
	found, err := r.referrers(ctx, repo, d, artifactType)
	if err != nil {
		return origin.List[origin.Descriptor]{}, r.failure(ctx, origin.ErrNameUnknown, err)
	}
	return listed(r, found, func(d origin.Descriptor) string { return d.Digest.String() }, p, false), nil
}

func (r *Registry) referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string) ([]origin.Descriptor, error) {
	u := r.at(repo, "referrers", d.String())
	if artifactType != "" {
		u.RawQuery = url.Values{"artifactType": {artifactType}}.Encode()
	}
	var found []origin.Descriptor
	_, err := r.pages(ctx, r.pulling(repo), u, v1.MediaTypeImageIndex, func(a *answer, b []byte) (bool, error) {
		filtered := strings.Contains(a.Header.Get("OCI-Filters-Applied"), "artifactType")
		page, err := r.named(b, artifactType, filtered)
		found = append(found, page...)
		return true, err
	})
	if refused, ok := errors.AsType[*refusal](err); ok && (refused.status == http.StatusNotFound || refused.status == http.StatusMethodNotAllowed) {
		return r.fallback(ctx, repo, d, artifactType)
	}
	return found, err
}

// fallback gives the referrers that the tag for them names.
func (r *Registry) fallback(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string) ([]origin.Descriptor, error) {
	ref, err := fallbackTag(d)
	if err != nil {
		return nil, err
	}
	m, err := r.manifest(ctx, repo, ref)
	if refused, ok := errors.AsType[*refusal](err); ok && (refused.status == http.StatusNotFound || refused.status == http.StatusGone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r.named(m.Bytes, artifactType, false)
}

// named gives the manifests that an index names, of one artifact type unless that
// is "" or they were filtered before.
func (r *Registry) named(index []byte, artifactType string, filtered bool) ([]origin.Descriptor, error) {
	// An empty descriptor is three bytes here and 200 in memory: it is counted first.
	content, err := origin.ReadManifest(v1.MediaTypeImageIndex, index)
	if err != nil {
		return nil, wrongAnswer("a list of referrers: %v", err)
	}
	var named []origin.Descriptor
	for _, d := range content.Manifests {
		if artifactType == "" || filtered || d.ArtifactType == artifactType {
			named = append(named, origin.Descriptor{Descriptor: d, Source: r.source()})
		}
	}
	return named, nil
}

// listed makes a page of ours of all that was found: in order, nothing twice.
func listed[T any](r *Registry, found []T, key func(T) string, p origin.Page, more bool) origin.List[T] {
	found = slices.DeleteFunc(found, func(item T) bool { return key(item) <= p.After })
	slices.SortFunc(found, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	found = slices.CompactFunc(found, func(a, b T) bool { return key(a) == key(b) })
	if n := max(0, p.N); len(found) > n {
		found, more = found[:n], true
	}
	return origin.List[T]{Items: found, More: more && len(found) > 0, Source: r.source()}
}

// pages reads a listing page by page for as long as visit wants more of it, and
// reports whether there is more. A link that may not be followed ends it, and is
// more all the same. Errors: errLong, after all pages that are read were visited.
func (r *Registry) pages(
	ctx context.Context, scope string, u *url.URL, accept string, visit func(a *answer, b []byte) (bool, error),
) (more bool, err error) {
	size := 0
	for n := 1; ; n++ {
		a, err := r.askAs(ctx, scope, egress.Request{Method: http.MethodGet, URL: u, Header: accepting(accept)})
		if err != nil {
			return false, err
		}
		b, err := page(a)
		if err != nil {
			return false, err
		}
		size += len(b)
		next, named, ok := r.next(u, a.Header)
		again, err := visit(a, b)
		if err != nil || !named {
			return false, err
		}
		if !again || !ok {
			return true, nil
		}
		if n == maxPages || size >= maxListing {
			return true, errLong
		}
		u = next
	}
}

// page reads the body of one page.
func page(a *answer) ([]byte, error) {
	defer a.Discard()
	if a.StatusCode != http.StatusOK {
		return nil, a.refusal()
	}
	if err := a.intact(); err != nil {
		return nil, err
	}
	return readAll(a.Body, maxPage)
}
