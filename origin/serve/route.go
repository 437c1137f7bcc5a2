package serve

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gorilla/mux"

	"github.com/weir-registry/weir/origin"
)

// Route is one operation of the API.
type Route struct {
	Name     string // e.g. "put-manifest"
	Template string // the label of metrics, e.g. "/v2/{name}/manifests/{reference}"
	Kind     Kind
	Methods  []string

	serve func(*server, http.ResponseWriter, *http.Request, Call) error
}

// Routes gives the table of everything that is served.
func Routes() []Route {
	read := []string{http.MethodGet, http.MethodHead}
	const (
		manifest = "/v2/{name}/manifests/{reference}"
		blob     = "/v2/{name}/blobs/{digest}"
		upload   = "/v2/{name}/blobs/uploads/{id}"
	)
	return []Route{
		{"base", "/v2/", KindBase, read, (*server).base},
		{"list-catalog", "/v2/_catalog", KindCatalog, read, (*server).catalog},
		{"extension", "/v2/_ext/{extension}", KindExtension, read, (*server).extension},
		{"list-tags", "/v2/{name}/tags/list", KindTags, read, (*server).tags},
		{"get-manifest", manifest, KindManifest, read, (*server).getManifest},
		{"put-manifest", manifest, KindManifest, []string{http.MethodPut}, (*server).putManifest},
		{"delete-manifest", manifest, KindManifest, []string{http.MethodDelete}, (*server).deleteManifest},
		{"get-blob", blob, KindBlob, read, (*server).getBlob},
		{"delete-blob", blob, KindBlob, []string{http.MethodDelete}, (*server).deleteBlob},
		{"start-upload", "/v2/{name}/blobs/uploads/", KindUploads, []string{http.MethodPost}, (*server).startUpload},
		{"get-upload", upload, KindUpload, read, (*server).getUpload},
		{"patch-upload", upload, KindUpload, []string{http.MethodPatch}, (*server).patchUpload},
		{"put-upload", upload, KindUpload, []string{http.MethodPut}, (*server).putUpload},
		{"cancel-upload", upload, KindUpload, []string{http.MethodDelete}, (*server).cancelUpload},
		{"get-referrers", "/v2/{name}/referrers/{digest}", KindReferrers, read, (*server).referrers},
	}
}

// template is that of the route which a request takes; "" if there is none. The method
// does not matter: all routes to one resource have one template.
func template(r *http.Request) string {
	c, _ := Parse(r.Method, r.URL) // of an invalid one there is enough for that
	for _, route := range Routes() {
		if route.Kind == c.Kind {
			return route.Template
		}
	}
	return ""
}

// router makes a mux of the table. Its matchers ask the parser, never a pattern
// for names: those would be a second grammar, and cost more than all the rest of
// a request.
func (s *server) router() *mux.Router {
	m := mux.NewRouter()
	for _, route := range Routes() {
		m.NewRoute().Name(route.Name).
			MatcherFunc(func(r *http.Request, match *mux.RouteMatch) bool {
				e := s.exchangeOf(r, match)
				if e.call.Kind != route.Kind {
					return false
				}
				e.route = route
				return true
			}).
			// After the parser's: mux takes a method that matches for a sign that no
			// other route's method was at fault.
			Methods(route.Methods...)
	}
	m.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := Parse(r.Method, r.URL)
		if err == nil {
			err = noSuchResource()
		}
		s.fail(w, r, err)
	})
	m.MethodNotAllowedHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := Parse(r.Method, r.URL) // what is wrong with it matters less than the method
		var allowed []string
		origin.RequestOf(r.Context()).Route = template(r)
		for _, route := range Routes() {
			if route.Kind == c.Kind {
				allowed = append(allowed, route.Methods...)
			}
		}
		slices.Sort(allowed)
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		s.fail(w, r, origin.Errorf(origin.ErrUnsupported, "%s is not done to this resource", origin.Quote(r.Method)))
	})
	return m
}

// handlerOf finds what serves a request. It is all that is wanted of mux, whose own
// ServeHTTP copies the request twice, to leave behind what nobody here asks for.
func handlerOf(m *mux.Router, r *http.Request) http.Handler {
	var match mux.RouteMatch
	m.Match(r, &match) // something always matches: there are handlers for what is not found
	return match.Handler
}

// exchange is one request that was parsed: what mux finds as its handler once a
// route has matched.
type exchange struct {
	s     *server
	call  Call
	err   error // of the parser
	route Route // the last one whose resource it is; the one to serve, once mux is done
}

// exchangeOf parses a request at the first matcher that asks; the others find the
// result in the match.
func (s *server) exchangeOf(r *http.Request, match *mux.RouteMatch) *exchange {
	if e, ok := match.Handler.(*exchange); ok {
		return e
	}
	e := &exchange{s: s}
	e.call, e.err = s.parse(r.Context(), r.Method, r.URL)
	match.Handler = e
	return e
}

// ServeHTTP implements http.Handler.
func (e *exchange) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := origin.RequestOf(r.Context())
	request.Route, request.Operation = e.route.Template, e.route.Name
	err := e.err
	if err == nil {
		err = e.route.serve(e.s, w, r, e.call)
	}
	if err != nil {
		e.s.fail(w, r, err)
	}
}
