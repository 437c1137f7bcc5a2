package config

import (
	"time"

	"github.com/weir-registry/weir/origin"
)

const (
	day        = 24 * time.Hour
	leastStall = Duration(10 * time.Second)
	// leastGrace is the shortest time between an upload and its manifest that is sure to
	// be had: clocks of files tick every few milliseconds, and a tenth of it passes between
	// renewals.
	leastGrace = Duration(time.Second)
	// leastPart is the least that a range of a fill may hold: below it the requests
	// cost more than they carry.
	leastPart = 1 << 20

	defaultRoot = "./weir-data"

	dockerHub         = "docker.io"
	dockerHubEndpoint = "https://registry-1.docker.io"
)

// WellKnown are the names of the public registries that are mirrored unless
// mirror.well_known is false.
func WellKnown() []string {
	return []string{dockerHub, "ghcr.io", "quay.io", "registry.k8s.io", "gcr.io", "public.ecr.aws", "mcr.microsoft.com"}
}

// dockerHubAliases are names under which clients know docker.io.
func dockerHubAliases() []string { return []string{"index.docker.io", "registry-1.docker.io"} }

// defaults is a configuration that says nothing.
func defaults() Config {
	return Config{
		Log: Log{Format: FormatAuto},
		Server: Server{
			Listen:       Addresses{{Network: "tcp", Addr: "127.0.0.1:5000"}},
			HTTP2:        true,
			TLS:          TLS{ClientAuth: ClientAuthOptional},
			QueueTimeout: Duration(10 * time.Second),
			Timeouts: ServerTimeouts{
				Header: Duration(10 * time.Second),
				Stall:  Duration(60 * time.Second),
				Idle:   Duration(120 * time.Second),
			},
			Drain: Duration(30 * time.Second),
		},
		Admin: Admin{Listen: Address{Network: "tcp", Addr: "127.0.0.1:5001"}},
		Store: Store{
			Blobs:    Backend{Filesystem: Filesystem{Root: defaultRoot}, S3: defaultS3()},
			Metadata: Backend{S3: defaultS3()},
		},
		Origin: Origin{
			Delete:          true,
			MaxManifestSize: 4 << 20,
			UploadExpiry:    Duration(day),
			GC:              GC{Interval: Duration(time.Hour), Grace: Duration(day)},
			Scrub:           Scrub{Rate: 50 << 20},
		},
		Mirror: Mirror{
			Cache:     Cache{MinFree: Free{Basis: 500}},
			Fills:     Fills{Concurrency: 32, Streams: 4, PartSize: 8 << 20, Linger: Linger{Complete: true}},
			WellKnown: true,
		},
		Authz:   Authz{Realm: "weir", Token: Token{Enabled: true, TTL: Duration(5 * time.Minute)}},
		Tracing: Tracing{Sampling: 1},
		UI:      UI{Enabled: true, Title: "weir"},
	}
}

// defaultS3 is a bucket without a name.
func defaultS3() S3 {
	return S3{Redirect: true, RedirectTTL: Duration(5 * time.Minute), PartSize: 16 << 20}
}

// setDefaults makes u an upstream that says nothing but its name.
func (u *Upstream) setDefaults() {
	u.Timeouts = UpstreamTimeouts{
		Connect: Duration(5 * time.Second),
		Header:  Duration(15 * time.Second),
		Stall:   Duration(30 * time.Second),
	}
	u.Tags = Tags{
		TTL:          Duration(5 * time.Minute),
		StaleIfError: Duration(30 * day),
		StaleIfGone:  true,
		NegativeTTL:  Duration(10 * time.Second),
	}
	u.ReferrersTTL = Duration(time.Minute)
	u.Allow = []origin.Glob{everything()}
}

// everything is the pattern of all repositories.
func everything() origin.Glob {
	all, err := origin.ParseGlob("**")
	if err != nil {
		panic("config: " + err.Error())
	}
	return all
}
