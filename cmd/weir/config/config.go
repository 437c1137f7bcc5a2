package config

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/weir-registry/weir/origin"
)

// Config is a whole configuration. The comments give what an operator writes;
// the defaults are in defaults.go.
type Config struct {
	Log    Log    `yaml:"log"`
	Server Server `yaml:"server"`
	Admin  Admin  `yaml:"admin"`
	Store  Store  `yaml:"store"`
	Origin Origin `yaml:"origin"`
	Mirror Mirror `yaml:"mirror"`
	Authz  Authz  `yaml:"authz"`
	// Repositories are what holds for some repositories only.
	Repositories []Repository `yaml:"repositories"`
	// Events are those who are told what happens.
	Events  []Receiver `yaml:"events"`
	Tracing Tracing    `yaml:"tracing"`
	UI      UI         `yaml:"ui"`
}

// UI are the pages for people.
type UI struct {
	// Enabled serves them.
	Enabled bool `yaml:"enabled"`
	// Title is what they are called.
	Title string `yaml:"title"`
}

// Log says what is written to standard error, and how.
type Log struct {
	// Level is the least that is written: debug, info, warn or error.
	Level Level `yaml:"level"`
	// Format is auto (text on a terminal, else json), json or text.
	Format Format `yaml:"format"`
	// Levels are other levels for single rooms: server, mirror, origin, authz, store, ui.
	Levels map[string]Level `yaml:"levels"`
}

// Tracing says where spans of requests are sent.
type Tracing struct {
	// Endpoint is a receiver of OTLP over gRPC, in plain text (http) or over TLS (https);
	// zero: there is none.
	Endpoint URL `yaml:"endpoint"`
	// Sampling is the share of traces, 0 to 1, that begin here and are sent.
	Sampling Share `yaml:"sampling"`
}

// Server is the public side.
type Server struct {
	// Listen is one address or a list of them.
	Listen Addresses `yaml:"listen"`
	// ExternalURL is what clients know weir by: absolute Locations begin with it,
	// and an ns of its host means local. Zero: a Location is a path.
	ExternalURL URL `yaml:"external_url"`
	// HTTP2 offers HTTP/2, to clients that come over TLS.
	HTTP2 bool `yaml:"http2"`
	TLS   TLS  `yaml:"tls"`
	// TrustedProxies are the peers whose Forwarded and X-Forwarded-* count.
	TrustedProxies []Network `yaml:"trusted_proxies"`
	// MaxConcurrentRequests, if not 0, is how many requests are served at once; more
	// wait for QueueTimeout and are then answered with 503.
	MaxConcurrentRequests int            `yaml:"max_concurrent_requests"`
	QueueTimeout          Duration       `yaml:"queue_timeout"`
	Timeouts              ServerTimeouts `yaml:"timeouts"`
	// Drain is how long running requests and fills may take to end after SIGTERM.
	Drain Duration `yaml:"drain"`
}

// ServerTimeouts bound a client's silence, never the length of what it does.
type ServerTimeouts struct {
	// Header is how long a request's header may take to come.
	Header Duration `yaml:"header"`
	// Stall is how long no byte may move in either direction.
	Stall Duration `yaml:"stall"`
	// Idle is how long a connection without a request stays open.
	Idle Duration `yaml:"idle"`
}

// Admin is the side for operators: metrics, health, profiles.
type Admin struct {
	// Listen is its address; zero: there is none.
	Listen Address `yaml:"listen"`
}

// Store is where bytes and records are kept.
type Store struct {
	Blobs Backend `yaml:"blobs"`
	// Metadata is the same as Blobs unless it is said.
	Metadata Backend `yaml:"metadata"`
	// Redis is how several replicas over one store are told of each other.
	Redis Redis `yaml:"redis"`
}

// Redis is what several replicas have in common besides their store.
type Redis struct {
	// URL is the server: redis://, rediss:// or unix://, with a password if it wants one.
	// None: this is the only replica.
	URL Secret `yaml:"url"`
	// Advertise is this replica's URL for the others; zero: they do not ask it for what it
	// is fetching.
	Advertise URL `yaml:"advertise"`
}

// Backend is one place to keep things: a directory, or the bucket that S3 names.
type Backend struct {
	Filesystem Filesystem `yaml:"filesystem"`
	S3         S3         `yaml:"s3"`
}

// Filesystem is a directory; it is made if it is not there.
type Filesystem struct {
	// Root is relative to the working directory.
	Root string `yaml:"root"`
}

// is reports whether two roots are one directory: by how they are written, or, through
// links, by what is there.
func (f Filesystem) is(other Filesystem) bool {
	a, err := filepath.Abs(f.Root)
	b, otherErr := filepath.Abs(other.Root)
	if err != nil || otherErr != nil || f.Root == "" || other.Root == "" {
		return false
	}
	if a == b {
		return true
	}
	at, err := os.Stat(a)
	otherAt, otherErr := os.Stat(b)
	return err == nil && otherErr == nil && os.SameFile(at, otherAt)
}

// S3 is a bucket of S3, or of a store that speaks its protocol.
type S3 struct {
	// Bucket is its name; "": things are kept in a directory.
	Bucket string `yaml:"bucket"`
	// Region is what requests are signed for; "": the environment's, else us-east-1.
	Region string `yaml:"region"`
	// Endpoint is where a store that is not AWS is reached.
	Endpoint URL `yaml:"endpoint"`
	// Prefix is what all keys begin with.
	Prefix string `yaml:"prefix"`
	// PathStyle puts the bucket into the path, and not into the host.
	PathStyle bool `yaml:"path_style"`
	// AccessKeyID and SecretAccessKey are the credentials; without them AWS's default
	// chain has some.
	AccessKeyID     string `yaml:"access_key_id"`
	SecretAccessKey Secret `yaml:"secret_access_key"`
	// PublicEndpoint is where clients reach the store. With an Endpoint and none of this
	// they are not sent there.
	PublicEndpoint URL `yaml:"public_endpoint"`
	// Redirect sends clients to the store for blobs, by addresses that are good for
	// RedirectTTL.
	Redirect    bool     `yaml:"redirect"`
	RedirectTTL Duration `yaml:"redirect_ttl"`
	// PartSize is how much of a blob is sent at a time.
	PartSize Size `yaml:"part_size"`
	// Spool is the local directory for downloads that run, and for what is received and
	// not sent yet; "": the system's temporary one.
	Spool string `yaml:"spool"`
}

// Redirecting reports whether clients are sent to the store.
func (s S3) Redirecting() bool {
	return s.Bucket != "" && s.Redirect && (s.Endpoint.IsZero() || !s.PublicEndpoint.IsZero())
}

// Origin is the registry that people push to: weir's own, or another one at URL.
type Origin struct {
	// URL is the base of another registry that is used instead of the built-in one;
	// the store then holds what a mirror remembers, and its running downloads. Prefix
	// is the path there that all repositories are below.
	URL    URL    `yaml:"url"`
	Prefix string `yaml:"prefix"`
	// Username and Password are for that registry and its token server.
	Username string `yaml:"username"`
	Password Secret `yaml:"password"`
	// CA is a PEM file of the authorities that are believed there besides the system's.
	CA string `yaml:"ca"`
	// Certificate and Key are PEM files that identify weir there: both or neither.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// Delete allows deletions.
	Delete bool `yaml:"delete"`
	// MaxManifestSize is the largest manifest that may be pushed.
	MaxManifestSize Size `yaml:"max_manifest_size"`
	// MaxBlobSize is the largest blob that may be pushed; 0: any.
	MaxBlobSize Size `yaml:"max_blob_size"`
	// UploadExpiry is how long an open upload is kept after its last byte.
	UploadExpiry Duration `yaml:"upload_expiry"`
	// ImmutableTags are patterns of whole tags whose first push wins;
	// ImmutableTagsExcept are those that may move after all.
	ImmutableTags       []Regexp `yaml:"immutable_tags"`
	ImmutableTagsExcept []Regexp `yaml:"immutable_tags_except"`
	GC                  GC       `yaml:"gc"`
	Scrub               Scrub    `yaml:"scrub"`
	// Retention is when the rules of repositories are applied.
	Retention Interval `yaml:"retention"`
}

// Scrub is when what is stored is read again, and compared with its digest.
type Scrub struct {
	// Interval is how often it begins; 0: only by command.
	Interval Duration `yaml:"interval"`
	// Rate is how many bytes are read in a second.
	Rate Size `yaml:"rate"`
}

// Interval is how often something is done.
type Interval struct {
	// Interval is the time between; 0: only by command.
	Interval Duration `yaml:"interval"`
}

// GC is the collection of garbage.
type GC struct {
	// Interval is how often it runs; 0: only by command.
	Interval Duration `yaml:"interval"`
	// Grace is how long content that no manifest names stays after somebody has pushed it
	// or asked for it.
	Grace Duration `yaml:"grace"`
}

// Mirror is the side that reads through to other registries.
type Mirror struct {
	// Default is the name of the upstream of repositories that name none; "": they
	// are local.
	Default string `yaml:"default"`
	Cache   Cache  `yaml:"cache"`
	Fills   Fills  `yaml:"fills"`
	// WellKnown adds the public registries that Upstreams does not name.
	WellKnown bool `yaml:"well_known"`
	// Upstreams are complete after Load: the well-known ones are among them.
	Upstreams []Upstream `yaml:"upstreams"`
}

// Cache is the budget of what is mirrored. What was pushed is not counted, and stays.
type Cache struct {
	// MaxSize is how many bytes of blobs are kept; 0: no limit.
	MaxSize Size `yaml:"max_size"`
	// MinFree is how much of the blobs' file system stays free.
	MinFree Free `yaml:"min_free"`
}

// Fills are the downloads from upstreams.
type Fills struct {
	// Concurrency is how many run at once, for each upstream.
	Concurrency int `yaml:"concurrency"`
	// Streams is how many ranges of one blob are fetched side by side.
	Streams int `yaml:"streams"`
	// PartSize is the largest range.
	PartSize Size `yaml:"part_size"`
	// Linger is how long a fill goes on that nobody reads any more.
	Linger Linger `yaml:"linger"`
}

// Upstream is one registry that is mirrored.
type Upstream struct {
	// Name is what images are called by: a host, with its port if it has one.
	Name string `yaml:"name"`
	// Aliases are further names of the same.
	Aliases []string `yaml:"aliases"`
	// Endpoints are where it is reached, in order of preference. There is at least
	// one after Load.
	Endpoints []Endpoint `yaml:"endpoints"`
	// HedgeAfter is how long an endpoint may be silent before the next one is asked
	// too; 0: until it failed.
	HedgeAfter Duration         `yaml:"hedge_after"`
	Timeouts   UpstreamTimeouts `yaml:"timeouts"`
	Tags       Tags             `yaml:"tags"`
	// ReferrersTTL is how long what refers to a manifest is believed; 0: always asked.
	ReferrersTTL Duration `yaml:"referrers_ttl"`
	// Allow are patterns of the repositories below the upstream that are mirrored.
	Allow []origin.Glob `yaml:"allow"`
	// Writable lets clients push to its repositories: what they push is kept here, and
	// stands before what the upstream has.
	Writable bool     `yaml:"writable"`
	Prefetch Prefetch `yaml:"prefetch"`
	// Public says that whatever the endpoints' credentials can read, anyone who
	// reaches weir may read too. It must be said once there are any.
	Public bool `yaml:"public"`
}

// Endpoint is one address of an upstream.
type Endpoint struct {
	// URL is its base; a path is a prefix of the repositories there.
	URL      URL    `yaml:"url"`
	Username string `yaml:"username"`
	Password Secret `yaml:"password"`
	// Credentials is where they are had instead of Username and Password.
	Credentials Credentials `yaml:"credentials"`
	// CA is a PEM file of the authorities that are believed besides the system's.
	CA string `yaml:"ca"`
	// Certificate and Key are PEM files that identify weir there: both or neither.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// RealmHosts are hosts besides its own whose token servers may see its
	// credentials: a host, and its port unless that is the default one.
	RealmHosts []string `yaml:"realm_hosts"`
	// MaxConnections bounds the connections to it; 0: no bound.
	MaxConnections int `yaml:"max_connections"`
	// Fallback says that no range of a blob is asked of it while an endpoint that is no
	// fallback gives them. Without it the ranges are spread over all.
	Fallback bool `yaml:"fallback"`
}

// hasCredentials reports whether the endpoint is told who is asking.
func (e Endpoint) hasCredentials() bool {
	return e.Username != "" || !e.Password.IsZero() || e.Credentials != "" || e.Certificate != ""
}

// NeedsCredentials reports whether an endpoint is told who is asking.
func (u Upstream) NeedsCredentials() bool {
	return slices.ContainsFunc(u.Endpoints, Endpoint.hasCredentials)
}

// UpstreamTimeouts bound an endpoint's silence, never the length of an answer.
type UpstreamTimeouts struct {
	Connect Duration `yaml:"connect"`
	// Header is how long the first byte of an answer may take, and bounds what all
	// endpoints together take to give it.
	Header Duration `yaml:"header"`
	// Stall is how long a body may pause.
	Stall Duration `yaml:"stall"`
}

// Tags says how long a tag's digest is believed.
type Tags struct {
	// TTL is how long no upstream is asked again; 0: always asked.
	TTL Duration `yaml:"ttl"`
	// Immutable are patterns of whole tags that never move once seen;
	// ImmutableExcept are those that do after all.
	Immutable       []Regexp `yaml:"immutable"`
	ImmutableExcept []Regexp `yaml:"immutable_except"`
	// StaleIfError is how long past its last check a tag is served while the
	// upstream cannot be asked.
	StaleIfError Duration `yaml:"stale_if_error"`
	// StaleIfGone serves it within StaleIfError also when the upstream denies it.
	StaleIfGone bool `yaml:"stale_if_gone"`
	// NegativeTTL is how long "not there" is believed.
	NegativeTTL Duration `yaml:"negative_ttl"`
}

// Prefetch says what is fetched before anybody asks for it.
type Prefetch struct {
	// Platforms are those of an index that is pulled by a tag.
	Platforms []origin.Platform `yaml:"platforms"`
}

// endpoint is where another registry is reached.
func (o Origin) endpoint() Endpoint {
	return Endpoint{
		URL: o.URL, Username: o.Username, Password: o.Password,
		CA: o.CA, Certificate: o.Certificate, Key: o.Key,
	}
}

// Warnings are remarks on what is allowed and hardly meant, one line each.
func (c *Config) Warnings() []string {
	var w []string
	if c.Server.Timeouts.Stall < leastStall {
		w = append(w, "server.timeouts.stall is below 10s: what kernels buffer can make a slow client look stalled")
	}
	for _, n := range c.Server.TrustedProxies {
		if n.Bits() == 0 {
			w = append(w, "server.trusted_proxies has "+n.String()+": whoever connects may say who they are, and where from")
		}
	}
	w = append(w, c.tlsWarnings()...)
	endpoints := []Endpoint{c.Origin.endpoint()}
	for _, u := range c.Mirror.Upstreams {
		endpoints = append(endpoints, u.Endpoints...)
	}
	for _, e := range endpoints {
		if e.URL.Scheme == "http" && (e.Username != "" || e.Credentials != "") && !isLoopback(e.URL.Hostname()) {
			w = append(w, "the password for "+e.URL.String()+" travels unencrypted: its URL is http")
		}
	}
	for _, o := range c.Authz.OIDC {
		if u, err := url.Parse(o.Issuer); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
			w = append(w, "the keys of "+o.Issuer+" travel unprotected: its URL is http, and who is on the way can sign tokens of anybody")
		}
	}
	return append(w, c.Authz.warnings()...)
}
