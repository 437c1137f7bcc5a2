package remotetest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// registry answers the registry's own port.
func (u *Upstream) registry(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		u.issue(w, r)
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		refuse(w, http.StatusNotFound, "NOT_FOUND")
		return
	}
	name, kind, ref := route(path)
	if !u.admits(w, r, name) {
		return
	}
	if path == "" {
		w.WriteHeader(http.StatusOK)
		return
	}
	u.find(name, kind, ref, r)(w, r)
}

// find gives what answers a request. It holds nothing that changes any more, so
// that an answer which is slow, or held, holds nobody else up.
func (u *Upstream) find(name, kind, ref string, r *http.Request) http.HandlerFunc {
	u.mu.Lock()
	defer u.mu.Unlock()
	repo, ok := u.repos[name]
	if !ok {
		return unknown("NAME_UNKNOWN")
	}
	switch kind {
	case "manifests":
		return repo.manifest(ref)
	case "blobs":
		return repo.blob(ref, u.cdnAddress(name, ref))
	case "tags":
		return u.tagList(repo, name, r)
	case "referrers":
		return u.referrers(repo, ref, r)
	default:
		return unknown("NOT_FOUND")
	}
}

func route(path string) (name, kind, ref string) {
	for _, kind := range []string{"manifests", "blobs", "tags", "referrers"} {
		if i := strings.LastIndex(path, "/"+kind+"/"); i >= 0 {
			return path[:i], kind, path[i+len(kind)+2:]
		}
	}
	return "", "", ""
}

func (r *repo) manifest(ref string) http.HandlerFunc {
	d, ok := r.tags[ref]
	if !ok {
		d = digest.Digest(ref)
	}
	m, ok := r.manifests[d]
	if !ok {
		return unknown("MANIFEST_UNKNOWN")
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", m.mediaType)
		w.Header().Set("Docker-Content-Digest", d.String())
		w.Header().Set("Content-Length", strconv.Itoa(len(m.bytes)))
		_, _ = w.Write(m.bytes) // whoever asked sees a cut body
	}
}

func (r *repo) blob(ref, elsewhere string) http.HandlerFunc {
	b, ok := r.blobs[digest.Digest(ref)]
	switch {
	case !ok:
		return unknown("BLOB_UNKNOWN")
	case elsewhere != "":
		return http.RedirectHandler(elsewhere, http.StatusTemporaryRedirect).ServeHTTP
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Content-Digest", ref)
		serveBytes(w, r, b)
	}
}

// serveBytes serves a blob, whole or the range asked for.
func serveBytes(w http.ResponseWriter, r *http.Request, b []byte) {
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func (u *Upstream) tagList(repo *repo, name string, r *http.Request) http.HandlerFunc {
	tags := slices.Sorted(maps.Keys(repo.tags))
	page, link := cut(tags, u.page, r)
	return func(w http.ResponseWriter, _ *http.Request) {
		link(w)
		answerJSON(w, "application/json", map[string]any{"name": name, "tags": page})
	}
}

func (u *Upstream) referrers(repo *repo, ref string, r *http.Request) http.HandlerFunc {
	if u.noAPI {
		return unknown("NOT_FOUND")
	}
	want := r.URL.Query().Get("artifactType")
	found := map[string]v1.Descriptor{}
	for d, m := range repo.manifests {
		if m.subject.String() == ref && (want == "" || m.artifact == want) {
			found[d.String()] = v1.Descriptor{
				MediaType: m.mediaType, Digest: d, Size: int64(len(m.bytes)), ArtifactType: m.artifact,
			}
		}
	}
	page, link := cut(slices.Sorted(maps.Keys(found)), u.page, r)
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{}}
	for _, d := range page {
		index.Manifests = append(index.Manifests, found[d])
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		link(w)
		if want != "" {
			w.Header().Set("OCI-Filters-Applied", "artifactType")
		}
		answerJSON(w, v1.MediaTypeImageIndex, index)
	}
}

// cut gives the page of a listing that r asks for, and what sets the Link to the
// next one.
func cut(items []string, most int, r *http.Request) (page []string, link func(http.ResponseWriter)) {
	q := r.URL.Query()
	items = slices.DeleteFunc(items, func(s string) bool { return s <= q.Get("last") })
	n, err := strconv.Atoi(cmp.Or(q.Get("n"), "0"))
	if err != nil || n <= 0 || most > 0 && n > most {
		n = most
	}
	if n == 0 || len(items) <= n {
		return items, func(http.ResponseWriter) {}
	}
	q.Set("n", strconv.Itoa(n))
	q.Set("last", items[n-1])
	return items[:n], func(w http.ResponseWriter) {
		w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.Path, q.Encode()))
	}
}

func answerJSON(w http.ResponseWriter, mediaType string, v any) {
	w.Header().Set("Content-Type", mediaType)
	_ = json.NewEncoder(w).Encode(v) // whoever asked sees a cut body
}

func unknown(code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, code) }
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"the upstream says no"}]}`, code)
}
