package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

// maxReferrers is the most that a page of referrers weighs, in bytes: clients read
// it as a manifest, and those end at 4 MiB.
const maxReferrers = 4<<20 - 4<<10

// tags lists a repository's tags, under the name that the client used.
func (s *server) tags(w http.ResponseWriter, r *http.Request, c Call) error {
	repo, err := s.name(w, c)
	if err != nil {
		return err
	}
	list, err := s.registry.Tags(r.Context(), repo, c.Page)
	if err != nil {
		return err
	}
	setSource(r.Context(), w.Header(), list.Source)
	if list.More {
		setNext(w.Header(), c.target(c.Repo.String(), "tags", "list"), c.Page, "", next(list, func(tag string) string { return tag }))
	}
	return s.marshal(w, r, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{c.Repo.String(), append([]string{}, list.Items...)})
}

// catalog lists the repositories. It belongs to no namespace.
func (s *server) catalog(w http.ResponseWriter, r *http.Request, c Call) error {
	if c.Namespace != "" && !s.ownHost(c.Namespace) {
		return origin.Errorf(origin.ErrNameUnknown, "namespace %s has no catalog here", origin.Quote(c.Namespace))
	}
	list, err := s.registry.Repos(r.Context(), c.Page)
	if err != nil {
		return err
	}
	setSource(r.Context(), w.Header(), list.Source)
	names := make([]string, 0, len(list.Items))
	for _, repo := range list.Items {
		names = append(names, repo.String())
	}
	if list.More {
		setNext(w.Header(), c.target("_catalog"), c.Page, "", next(list, origin.Repo.String))
	}
	return s.marshal(w, r, "application/json", struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// referrers lists what refers to a manifest, as an image index. A page ends where
// it grows too heavy, and the next begins there.
func (s *server) referrers(w http.ResponseWriter, r *http.Request, c Call) error {
	repo, err := s.name(w, c)
	if err != nil {
		return err
	}
	list, err := s.registry.Referrers(r.Context(), repo, c.Digest, c.ArtifactType, c.Page)
	if err != nil {
		return err
	}
	h := w.Header()
	setSource(r.Context(), h, list.Source)
	if c.ArtifactType != "" {
		h.Set("OCI-Filters-Applied", "artifactType")
	}
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[`, v1.MediaTypeImageIndex)
	last, after := "", next(list, func(d origin.Descriptor) string { return d.Digest.String() })
	for _, desc := range list.Items {
		before := len(body)
		if last != "" {
			body = append(body, ',')
		}
		if body, err = appendDescriptor(body, desc.Descriptor); err != nil {
			return fmt.Errorf("describe referrer %s: %w", desc.Digest, err)
		}
		if len(body) > maxReferrers && last != "" {
			list.More, after, body = true, last, body[:before]
			break
		}
		if last == "" {
			body = slices.Grow(body, min(len(list.Items)*len(body), maxReferrers)) // most are alike
		}
		last = desc.Digest.String()
	}
	if list.More {
		setNext(h, c.target(c.Repo.String(), "referrers", c.Digest.String()), c.Page, c.ArtifactType, after)
	}
	return s.json(w, r, v1.MediaTypeImageIndex, append(body, "]}"...))
}

// next is what the page after a list comes after; "" where nothing says.
func next[T any](list origin.List[T], name func(T) string) string {
	if n := len(list.Items); list.Next == "" && n > 0 {
		return name(list.Items[n-1])
	}
	return list.Next
}

// marshal answers with a value as JSON.
func (s *server) marshal(w http.ResponseWriter, r *http.Request, contentType string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return s.json(w, r, contentType, b)
}

func (s *server) json(w http.ResponseWriter, r *http.Request, contentType string, b []byte) error {
	h := w.Header()
	h.Set("Content-Type", contentType)
	setNoSniff(h)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	return s.write(w, r, b)
}
