package ui

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/ui/view"
)

const (
	repositoriesShown = 100
	tagsShown         = 50
	referrersShown    = 100
	runningShown      = 100
	// largestRaw is how much of a manifest is shown on its page, in bytes.
	largestRaw = 256 << 10
)

// listPage is a page of a list that may be searched.
type listPage[T any] struct {
	Repository string // that it is about
	Search     string
	Items      []T
	First      bool   // nothing comes before it
	Next       string // where the next page is; "": there is none
}

func pageOf[T any](r *http.Request, list origin.List[T]) listPage[T] {
	q := r.URL.Query()
	p := listPage[T]{Repository: q.Get("name"), Search: q.Get("search"), Items: list.Items, First: q.Get("last") == ""}
	if list.Next != "" {
		q.Set("last", list.Next)
		p.Next = r.URL.Path + "?" + q.Encode()
	}
	return p
}

// fragment reports whether a script asks for a part of a page.
func fragment(r *http.Request) bool { return r.Header.Get("HX-Request") == "true" }

// list answers with a page of a list, or with the list alone.
func (u *UI) list(w http.ResponseWriter, r *http.Request, file, name string, body any) error {
	w.Header().Set("Vary", "HX-Request")
	if fragment(r) {
		return u.execute(w, http.StatusOK, file, "list", body)
	}
	return u.render(w, r, http.StatusOK, file, name, "repositories", body)
}

func (u *UI) repositories(w http.ResponseWriter, r *http.Request) error {
	list, err := u.opts.Shown.Repositories(r.Context(), r.FormValue("search"), origin.Page{After: r.FormValue("last"), N: repositoriesShown})
	if err != nil {
		return err
	}
	return u.list(w, r, "repositories.html", "Repositories", pageOf(r, list))
}

// tagsPage is what there is of a repository.
type tagsPage struct {
	listPage[view.Tag]
	Newest bool // they are all here, and the newest is the first
}

func (u *UI) repository(w http.ResponseWriter, r *http.Request) error {
	name := r.FormValue("name")
	list, err := u.opts.Shown.Tags(r.Context(), name, r.FormValue("search"), origin.Page{After: r.FormValue("last"), N: tagsShown})
	if err != nil {
		return err
	}
	p := tagsPage{listPage: pageOf(r, list)}
	if p.Newest = p.First && p.Next == ""; p.Newest {
		slices.SortStableFunc(p.Items, func(a, b view.Tag) int { return since(b).Compare(since(a)) })
	}
	return u.list(w, r, "repository.html", name, p)
}

// reference reads which manifest a request is about: by tag or digest.
func reference(r *http.Request) (name string, ref origin.Ref, err error) {
	name = r.FormValue("name")
	if tag := r.FormValue("tag"); tag != "" {
		ref, err = origin.ParseTag(tag)
		return name, ref, err
	}
	d, err := origin.ParseDigest(r.FormValue("digest"))
	return name, origin.ByDigest(d), err
}

// imagePage is an image, or what else a manifest is of.
type imagePage struct {
	view.Manifest
	Tag       string // that it was asked for by
	Reference string // as it stands behind the repository's name: ":v1", "@sha256:..."
	Bytes     int64  // of all layers
	Raw       string // the manifest, indented where that is possible
	Cut       bool   // Raw is its beginning
	Referrers []view.Referrer
	More      bool // further ones than those
	MayDelete bool
}

func (u *UI) image(w http.ResponseWriter, r *http.Request) error {
	name, ref, err := reference(r)
	if err != nil {
		return err
	}
	m, err := u.opts.Shown.Manifest(r.Context(), name, ref)
	if err != nil {
		return err
	}
	raw, err := u.opts.Shown.RawManifest(r.Context(), name, origin.ByDigest(m.Digest))
	if err != nil {
		return err
	}
	referrers, err := u.opts.Shown.Referrers(r.Context(), name, m.Digest, origin.Page{N: referrersShown})
	if err != nil {
		return err
	}
	p := imagePage{
		Manifest: m, Tag: ref.Tag(), Reference: "@" + m.Digest.String(),
		Referrers: referrers.Items, More: referrers.More, MayDelete: u.opts.Shown.MayDelete(r.Context(), name, ref),
	}
	if p.Tag != "" {
		p.Reference = ":" + p.Tag
	}
	for _, l := range m.Layers {
		p.Bytes = origin.AddSizes(p.Bytes, l.Size)
	}
	p.Raw, p.Cut = indented(raw)
	return u.render(w, r, http.StatusOK, "image.html", m.Repository+p.Reference, "repositories", p)
}

// indented is a manifest for people. What is no manifest is shown as it is: each level of
// brackets, of which there may be thousands, would indent all that is within.
func indented(m origin.Manifest) (text string, cut bool) {
	b := m.Bytes
	if cut = len(b) > largestRaw; cut {
		b = b[:largestRaw]
	} else if _, err := origin.ReadManifest(m.MediaType, b); err == nil {
		var out bytes.Buffer
		if json.Indent(&out, b, "", "  ") == nil && out.Len() <= 4*largestRaw {
			return out.String(), false
		}
	}
	return strings.ToValidUTF8(string(b), "\uFFFD"), cut
}

// download has a browser keep what it is given as a file, whatever that is.
func download(w http.ResponseWriter, name string, size int64) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	if size >= 0 {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
}

func fileName(d digest.Digest, suffix string) string {
	return d.Algorithm().String() + "-" + d.Encoded() + suffix
}

func (u *UI) manifest(w http.ResponseWriter, r *http.Request) error {
	name, ref, err := reference(r)
	if err != nil {
		return err
	}
	m, err := u.opts.Shown.RawManifest(r.Context(), name, ref)
	if err != nil {
		return err
	}
	download(w, fileName(m.Digest, ".json"), int64(len(m.Bytes)))
	_, _ = w.Write(m.Bytes) // whoever does not read it is gone
	return nil
}

func (u *UI) blob(w http.ResponseWriter, r *http.Request) (err error) {
	d, err := origin.ParseDigest(r.FormValue("digest"))
	if err != nil {
		return err
	}
	blob, err := u.opts.Shown.Blob(r.Context(), r.FormValue("name"), d)
	if err != nil {
		return err
	}
	defer blob.Body.Close()
	download(w, fileName(d, ""), blob.Length)
	if r.Method == http.MethodHead {
		return nil
	}
	if _, err := io.Copy(w, blob.Body); err != nil {
		panic(http.ErrAbortHandler) // a body that is cut must look cut
	}
	return nil
}

// deletePage is what is about to be deleted.
type deletePage struct {
	Repository, Tag, Digest string
	Upstream                string
}

func (u *UI) askDelete(w http.ResponseWriter, r *http.Request) error {
	name, ref, err := reference(r)
	if err != nil {
		return err
	}
	m, err := u.opts.Shown.Manifest(r.Context(), name, ref)
	if err != nil {
		return err
	}
	if !u.opts.Shown.MayDelete(r.Context(), name, ref) {
		return origin.ErrDenied
	}
	p := deletePage{m.Repository, ref.Tag(), m.Digest.String(), m.Upstream}
	return u.render(w, r, http.StatusOK, "delete.html", "Delete", "repositories", p)
}

func (u *UI) delete(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, largestForm)
	if err := r.ParseForm(); err != nil {
		return origin.Errorf(origin.ErrUnsupported, "not a form").WithStatus(http.StatusBadRequest)
	}
	r.Form = r.PostForm // the address has no say in it
	name, ref, err := reference(r)
	if err != nil {
		return err
	}
	if err := u.opts.Shown.Delete(r.Context(), name, ref); err != nil {
		return err
	}
	http.Redirect(w, r, Root+"repository?"+url.Values{"name": {name}}.Encode(), http.StatusSeeOther)
	return nil
}

// whyPage explains an image.
type whyPage struct {
	Image string
	Wrong string
	*origin.Explanation
}

func (u *UI) why(w http.ResponseWriter, r *http.Request) error {
	p := whyPage{Image: strings.TrimSpace(r.FormValue("image"))}
	if p.Image != "" {
		x, err := u.opts.Shown.Explain(r.Context(), p.Image)
		switch e, known := isError(err); {
		case err == nil:
			p.Explanation = &x
		case known && (e.HTTPStatus() == http.StatusBadRequest || e.HTTPStatus() == http.StatusNotFound):
			p.Wrong = e.Message
		default:
			return err
		}
	}
	return u.render(w, r, http.StatusOK, "why.html", "Why", "why", p)
}

func (u *UI) me(w http.ResponseWriter, r *http.Request) error {
	rights, err := u.opts.Shown.Rights(r.Context(), strings.TrimSpace(r.FormValue("repository")))
	p := struct {
		view.Rights
		Asked string
		Wrong string
	}{Rights: rights, Asked: r.FormValue("repository")}
	if e, known := isError(err); known && e.HTTPStatus() == http.StatusBadRequest {
		p.Wrong = e.Message
	} else if err != nil {
		return err
	}
	return u.render(w, r, http.StatusOK, "me.html", "Who you are", "me", p)
}

func (u *UI) config(w http.ResponseWriter, r *http.Request) error {
	text, err := u.opts.Shown.Config(r.Context())
	if err != nil {
		return err
	}
	return u.render(w, r, http.StatusOK, "config.html", "Configuration", "me", string(text))
}
