package ui

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/ui/view"
)

// Root is where the pages are.
const Root = "/ui/"

// Catalog is what there is.
type Catalog interface {
	Repositories(ctx context.Context, search string, p origin.Page) (origin.List[view.Repository], error)
	Tags(ctx context.Context, repository, search string, p origin.Page) (origin.List[view.Tag], error)
}

// Images is what an image is.
type Images interface {
	Manifest(ctx context.Context, repository string, ref origin.Ref) (view.Manifest, error)
	RawManifest(ctx context.Context, repository string, ref origin.Ref) (origin.Manifest, error)
	Referrers(ctx context.Context, repository string, d digest.Digest, p origin.Page) (origin.List[view.Referrer], error)
	Blob(ctx context.Context, repository string, d digest.Digest) (origin.Blob, error)
	MayDelete(ctx context.Context, repository string, ref origin.Ref) bool
	Delete(ctx context.Context, repository string, ref origin.Ref) error
}

// Activity is what goes on.
type Activity interface {
	Fills(ctx context.Context, p origin.Page) (origin.List[view.Fill], error)
	Uploads(ctx context.Context, p origin.Page) (origin.List[view.Upload], error)
	Events(ctx context.Context, p origin.Page) (origin.List[view.Event], error)
	Upstreams(ctx context.Context) (view.Upstreams, error)
}

// Explainer is why.
type Explainer interface {
	Explain(ctx context.Context, image string) (origin.Explanation, error)
	Rights(ctx context.Context, repository string) (view.Rights, error)
	Config(ctx context.Context) ([]byte, error)
}

// Shown is all that pages show: a view.View.
type Shown interface {
	Catalog
	Images
	Activity
	Explainer
}

// Options are the circumstances of the pages.
type Options struct {
	Title  string // of every page
	Shown  Shown
	SignIn SignIn
	// Host is what clients call this registry; "": as the browser does.
	Host string
	// Stall is how long a browser may take no byte before it is cut; 0: for ever.
	Stall time.Duration
	Log   *slog.Logger // nil: none
}

// UI serves the pages. Whoever stands before it has found out who asks (guard.Identify),
// and lets no other site's page change anything.
type UI struct {
	opts     Options
	pages    map[string]*template.Template
	sessions sessions
	mux      *http.ServeMux

	looking lookers
	end     chan struct{} // closed: streams end
	once    sync.Once
}

//go:embed templates/*.html
var templates embed.FS

// New makes the pages.
func New(o Options) (*UI, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	u := &UI{
		opts: o, sessions: sessions{o.SignIn}, mux: http.NewServeMux(),
		looking: lookers{of: map[string]int{}}, end: make(chan struct{}),
	}
	files, err := newStatic()
	if err != nil {
		return nil, err
	}
	if u.pages, err = parse(files); err != nil {
		return nil, err
	}
	for pattern, page := range u.routes() {
		u.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			route := pattern[strings.IndexByte(pattern, '/'):]
			origin.RequestOf(r.Context()).Route = strings.TrimSuffix(route, "{$}")
			if err := page(w, r); err != nil {
				u.fail(w, r, err)
			}
		})
	}
	u.mux.Handle(staticRoute, files)
	u.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		u.fail(w, r, origin.Errorf(origin.ErrNameUnknown, "there is no such page"))
	})
	return u, nil
}

// routes are the pages, by what leads to them.
func (u *UI) routes() map[string]func(http.ResponseWriter, *http.Request) error {
	return map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /ui/{$}":             u.repositories,
		"GET /ui/repository":      u.repository,
		"GET /ui/image":           u.image,
		"GET /ui/manifest":        u.manifest,
		"GET /ui/blob":            u.blob,
		"GET /ui/delete":          u.askDelete,
		"POST /ui/delete":         u.delete,
		"GET /ui/activity":        u.activity,
		"GET /ui/activity/stream": u.stream,
		"GET /ui/why":             u.why,
		"GET /ui/me":              u.me,
		"GET /ui/config":          u.config,
		"GET /ui/login":           u.login,
		"POST /ui/login":          u.logIn,
		"GET /ui/login/provider":  u.toProvider,
		"GET /ui/login/callback":  u.fromProvider,
		"POST /ui/logout":         u.logOut,
	}
}

// staticRoute leads to the files that pages load.
const staticRoute = "GET " + Root + "static/{file}"

// Routes are the patterns of all that there is below Root, as those of an http.ServeMux.
func Routes() []string {
	return append(slices.Sorted(maps.Keys((*UI)(nil).routes())), staticRoute)
}

// ServeHTTP implements http.Handler.
func (u *UI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		// A body is not looked at: FormValue would keep the files in it on the disk.
		r.Form = r.URL.Query()
	}
	out := newPaced(w, r, u.opts.Stall)
	u.sessions.identify(r)
	u.mux.ServeHTTP(out, r)
	out.end()
}

// Close ends the streams. It may be called again, and of nil.
func (u *UI) Close() {
	if u != nil {
		u.once.Do(func() { close(u.end) })
	}
}

// IsStream reports whether a request stays open for as long as somebody looks: it is not
// one that is answered and done.
func IsStream(r *http.Request) bool { return r.URL.Path == Root+"activity/stream" }

// Has reports whether a request is for a page.
func Has(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, Root) }

// Headers sets what every answer below Root carries, whoever gives it.
func Headers(next http.Handler) http.Handler {
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ui" || Has(r) {
			h := w.Header()
			h.Set("Content-Security-Policy", policy)
			h.Set("X-Frame-Options", "DENY")
			h.Set("X-Content-Type-Options", "nosniff")
			// With no-referrer, a browser says in a POST that it comes from nowhere.
			h.Set("Referrer-Policy", "same-origin")
			h.Set("Cross-Origin-Opener-Policy", "same-origin")
			h.Set("Cross-Origin-Resource-Policy", "same-origin")
			h.Set("Cache-Control", "private, no-store")
		}
		next.ServeHTTP(w, r)
	})
}

// Leads reports whether a request is a browser's for the root of the server, or for the
// pages without the slash.
func Leads(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	return r.URL.Path == "/ui" || r.URL.Path == "/" && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// page is what every page is made of.
type page struct {
	Title  string // of the registry
	Name   string // of the page
	At     string // which entry of the menu it is below
	Host   string
	Who    authz.Identity
	SignIn bool // whether people can sign in
	Body   any
}

// render answers with a page.
func (u *UI) render(w http.ResponseWriter, r *http.Request, status int, file, name, at string, body any) error {
	p := page{
		Title: u.opts.Title, Name: name, At: at, Host: u.host(r),
		Who: guard.Who(r.Context()), SignIn: u.opts.SignIn.possible(), Body: body,
	}
	return u.execute(w, status, file, "layout", p)
}

// largestPage is the most that a page has, in bytes: it is in memory until its browser has
// read it. That of an image with all lists as long as they are shown has one MiB.
const largestPage = 8 << 20

// errLarge is that an image says more than a page holds.
var errLarge = origin.Errorf(origin.ErrSizeInvalid, "it has more to say than a page holds: it can be downloaded").WithStatus(http.StatusUnprocessableEntity)

// text is what a page is made of.
type text struct{ bytes.Buffer }

// Write implements io.Writer.
func (t *text) Write(b []byte) (int, error) {
	if t.Len()+len(b) > largestPage {
		return 0, errLarge
	}
	return t.Buffer.Write(b)
}

// execute answers with a template, once all of it is made.
func (u *UI) execute(w http.ResponseWriter, status int, file, part string, data any) error {
	var made text
	if err := u.pages[file].ExecuteTemplate(&made, part, data); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(made.Bytes()) // whoever does not read it is gone
	return nil
}

// host is what clients call this registry.
func (u *UI) host(r *http.Request) string {
	if u.opts.Host != "" {
		return u.opts.Host
	}
	return r.Host
}

// fail answers with a page that says what is wrong.
func (u *UI) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // nobody reads an answer
	}
	e, known := errors.AsType[*origin.Error](err)
	if !known {
		e = &origin.Error{Code: origin.CodeUnknown, Message: "internal error"}
	}
	status, id := e.HTTPStatus(), origin.RequestOf(r.Context()).ID
	if status >= 500 {
		u.opts.Log.ErrorContext(r.Context(), "page failed", "status", status, "error", err.Error(), "trace_id", id)
		w.Header().Set("X-Request-Id", id)
	}
	// A browser that is challenged asks for a password in a window of its own.
	body := struct {
		Status          int
		Message, ID, To string
		Ask             bool
	}{status, e.Message, "", r.URL.RequestURI(), status == http.StatusUnauthorized && u.opts.SignIn.possible()}
	if status >= 500 {
		body.ID = id
	}
	if err := u.render(w, r, status, "error.html", http.StatusText(status), "", body); err != nil {
		u.opts.Log.ErrorContext(r.Context(), "page of an error failed", "error", err.Error(), "trace_id", id)
		panic(http.ErrAbortHandler)
	}
}
