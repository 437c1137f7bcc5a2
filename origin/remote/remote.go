package remote

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
)

// Options say which endpoint to ask, as whom, and how long to wait.
type Options struct {
	// URL is the endpoint's: http or https, a host, and a path that is the prefix of
	// all repositories there ("https://h/proj": proj/...).
	URL *url.URL
	// Login is for the endpoint and its token server; nil = ask anonymously.
	Login login.Provider
	// TokenHosts are hosts besides the endpoint's own whose token server may see the
	// login: "host:port", or "host" for the default port. No redirect gives them any.
	TokenHosts []string
	// Trust says whose certificates are believed, and which one is shown: see
	// [egress.Options].
	Trust    func() *egress.Trust
	Timeouts Timeouts
	// MaxConnections to each host at a time; further requests wait for one; 0 = no
	// limit. Of each https host's a quarter (at least one) is for all but blobs, and
	// may be HTTP/2; blobs have the others, with HTTP/1.1. A single one is shared.
	MaxConnections int
	// UserAgent is sent with each request; "" = "weir".
	UserAgent string
	// OnRequest is told the status of every answer, tokens and redirects included; 0
	// = there was none. OnBytes is told how much was read of bodies. Both are called
	// from many goroutines; nil = nobody asks.
	OnRequest func(status int)
	OnBytes   func(n int64)
	// OnLimit is told what the endpoint's answers say of its limits: how many of limit
	// requests remain in a window of time, 0 = it did not say how long that is. It is
	// called from many goroutines; nil = nobody asks.
	OnLimit func(limit, remaining int, window time.Duration)
	// Network is what connections are made with.
	Network egress.Network
}

// Timeouts bound the steps of a request: see [egress.Timeouts].
type Timeouts = egress.Timeouts

// Registry reads from an endpoint; it takes no writes, which [Origin] does. It is safe
// for concurrent use.
type Registry struct {
	origin.None
	endpoint string // what it is called: host, and port if one is configured
	root     *url.URL
	prefix   string // of repositories, with a slash at the end if it is not ""
	out      *egress.Client
	keys     *keyring
	places   *places // where blobs were redirected to
	onLimit  func(limit, remaining int, window time.Duration)
}

var (
	_ origin.Registry = (*Registry)(nil)
	_ origin.Ranger   = (*Registry)(nil)
)

// New is the registry at an endpoint. Nothing is asked of it yet. Errors: options
// that make no sense; they do not quote the URL, which may hold a password.
func New(o Options) (*Registry, error) {
	if o.URL == nil || o.URL.Scheme != "http" && o.URL.Scheme != "https" || o.URL.Hostname() == "" {
		return nil, errors.New("an endpoint is an http or https URL with a host")
	}
	if o.URL.User != nil || o.URL.RawQuery != "" || o.URL.Fragment != "" || o.URL.Opaque != "" {
		return nil, errors.New("an endpoint's URL has a host and a path, and neither credentials nor a query")
	}
	prefix := strings.Trim(o.URL.Path, "/")
	if prefix != "" {
		if _, err := origin.ParseRepo(prefix); err != nil {
			return nil, fmt.Errorf("the path of an endpoint's URL: %w", err)
		}
		prefix += "/"
	}
	o.Timeouts = o.Timeouts.OrDefault()
	if o.OnLimit == nil {
		o.OnLimit = func(int, int, time.Duration) {}
	}
	root := &url.URL{Scheme: o.URL.Scheme, Host: strings.ToLower(o.URL.Host), Path: "/v2/"}
	out := egress.New(egress.Options{
		URL:            root,
		TokenHosts:     append(tokenHosts(root), o.TokenHosts...),
		Trust:          o.Trust,
		Timeouts:       o.Timeouts,
		MaxConnections: o.MaxConnections,
		UserAgent:      o.UserAgent,
		OnRequest:      o.OnRequest,
		OnBytes:        o.OnBytes,
		Network:        o.Network,
	})
	return &Registry{
		endpoint: root.Host,
		root:     root,
		prefix:   prefix,
		out:      out,
		keys:     newKeyring(root, out, o),
		places:   newPlaces(),
		onLimit:  o.OnLimit,
	}, nil
}

// tokenHosts are the hosts besides the endpoint's own that may see its login in any
// case.
func tokenHosts(root *url.URL) []string {
	if root.Scheme == "https" && root.Hostname() == "registry-1.docker.io" && (root.Port() == "" || root.Port() == "443") {
		return []string{"auth.docker.io"}
	}
	return nil
}

// Close lets go of the connections that are not in use. The registry may be used
// on.
func (r *Registry) Close() { r.out.Close() }

// String names the endpoint.
func (r *Registry) String() string { return "remote " + r.endpoint }

// GoString is String: what a registry holds is not for printing.
func (r *Registry) GoString() string { return r.String() }

// LogValue is String: what a registry holds is not for logging.
func (r *Registry) LogValue() slog.Value { return slog.StringValue(r.String()) }

// source says where an answer comes from.
func (r *Registry) source() origin.Source { return origin.Source{Upstream: r.endpoint} }

// name is what the endpoint calls a repository.
func (r *Registry) name(repo origin.Repo) string { return r.prefix + repo.String() }

// at is the address of something in a repository, e.g. at(repo, "blobs", digest).
// A Repo, a Ref and a digest consist of what a path may hold as it is.
func (r *Registry) at(repo origin.Repo, kind, what string) *url.URL {
	u := *r.root
	u.Path += r.name(repo) + "/" + kind + "/" + what
	return &u
}
