package serve

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Options are the circumstances of a served registry. The zero value serves local
// names alone.
type Options struct {
	// Names maps what clients call a repository to the one it is. nil: names are
	// local as they stand, and an ns other than ExternalURL's host is unknown.
	Names Namer
	// ExternalURL is where clients reach the handler; Locations are absolute then.
	// nil: they are paths.
	ExternalURL *url.URL
	// MaxManifestSize is the largest manifest taken, in bytes; 0: 4 MiB, which the
	// specification asks for.
	MaxManifestSize int64
	// Logger is told of errors that no client is told of; nil: nobody is.
	Logger *slog.Logger
	// Stall is how long a client may take or give no byte before it is cut; 0: for
	// ever.
	Stall time.Duration
	// Parse reads a request's method and address; nil: [Parse], and what stands around it
	// has the request's context.
	Parse func(ctx context.Context, method string, u *url.URL) (Call, error)
	// Base says with an error that whoever asks is not told whether this is a registry
	// (GET /v2/); nil: everybody is.
	Base func(ctx context.Context) error
	// Ext are the addresses below /v2/_ext/, by their names.
	Ext map[string]Extension
	// Fill opens for another replica the range of a running fill that its request names,
	// and proves that it is one; nil: there are none. Whatever its error, whoever asks is
	// told that there is no such address.
	Fill func(r *http.Request, rng store.Range) (origin.Blob, error)
}

// Namer finds the repository that a client means.
type Namer interface {
	// Name maps a repository as a client names it: below a path prefix ("" = none),
	// with an ns parameter ("" = none), or by its name alone.
	// Errors: origin.ErrNameUnknown (no such namespace), origin.ErrNameInvalid.
	Name(prefix, ns string, repo origin.Repo) (origin.Repo, error)
}

// localNames is the Namer of a registry that mirrors nothing.
type localNames struct{}

func (localNames) Name(prefix, ns string, repo origin.Repo) (origin.Repo, error) {
	if prefix != "" || ns != "" {
		return origin.Repo{}, origin.Errorf(origin.ErrNameUnknown, "namespace %s is not known to this registry", origin.Quote(prefix+ns))
	}
	return repo, nil
}

const defaultManifestSize = 4 << 20

type server struct {
	registry    origin.Registry
	names       Namer
	local       bool // names are local: no prefix leads anywhere
	external    *url.URL
	maxManifest int64
	log         *slog.Logger
	stall       time.Duration
	parse       func(ctx context.Context, method string, u *url.URL) (Call, error)
	baseErr     func(ctx context.Context) error
	ext         map[string]Extension
	fill        func(r *http.Request, rng store.Range) (origin.Blob, error)
	buffers     *sync.Pool    // of *[copyBuffer]byte
	large       *largeBuffers // of uploads
}

// New serves a registry. The handler reads and writes bodies under the deadlines
// of Options.Stall, so the http.Server around it wants neither a ReadTimeout nor
// a WriteTimeout.
func New(r origin.Registry, o Options) http.Handler {
	s := &server{
		registry: r, names: o.Names, external: o.ExternalURL, maxManifest: o.MaxManifestSize,
		log: o.Logger, stall: o.Stall, ext: o.Ext, fill: o.Fill, parse: o.Parse, baseErr: o.Base,
		buffers: &sync.Pool{New: func() any { return new([copyBuffer]byte) }},
		large:   newLargeBuffers(),
	}
	if s.names == nil {
		s.names, s.local = localNames{}, true
	}
	if s.maxManifest == 0 {
		s.maxManifest = defaultManifestSize
	}
	if s.parse == nil {
		s.parse = func(_ context.Context, method string, u *url.URL) (Call, error) { return Parse(method, u) }
	}
	if s.baseErr == nil {
		s.baseErr = func(context.Context) error { return nil }
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	router := s.router()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setVersion(w.Header())
		r = paced(w, r, s.stall)
		handlerOf(router, r).ServeHTTP(w, r)
	})
}

// name finds the repository that a call is about, and says under which namespace
// it was found.
func (s *server) name(w http.ResponseWriter, c Call) (origin.Repo, error) {
	repo, err := s.find(c, c.Repo)
	if err == nil && c.Namespace != "" {
		w.Header().Set("OCI-Namespace", c.Namespace)
	}
	return repo, err
}

// find maps a repository as the client names it. This registry's own host is no
// namespace: it asks for the name as it stands.
func (s *server) find(c Call, repo origin.Repo) (origin.Repo, error) {
	if s.ownHost(c.Namespace) {
		return s.names.Name(c.Prefix, "", repo)
	}
	return s.names.Name(c.Prefix, c.Namespace, repo)
}

// ownHost reports whether a namespace is this registry itself.
func (s *server) ownHost(ns string) bool {
	return s.external != nil && ns == s.external.Host
}

// base answers that this is a registry.
func (s *server) base(w http.ResponseWriter, r *http.Request, c Call) error {
	if c.Prefix != "" && s.local {
		return noSuchResource()
	}
	if err := s.baseErr(r.Context()); err != nil {
		return err
	}
	return s.json(w, r, "application/json", []byte("{}"))
}
