package view

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Repository is one that has content here.
type Repository struct {
	Name     string `json:"name"`
	Upstream string `json:"upstream,omitempty"` // that it is mirrored from; "": it is local
}

// Tag is a tag, and what is known of what it names.
type Tag struct {
	Name         string        `json:"name"`
	Digest       digest.Digest `json:"digest,omitempty"` // "": it is damaged
	MediaType    string        `json:"media_type"`
	ArtifactType string        `json:"artifact_type,omitempty"` // of what is no image
	// Size is that of config and layers in bytes, each blob once; of an index, of those of
	// its manifests that are here.
	Size      int64      `json:"size"`
	Platforms []string   `json:"platforms"`
	PushedAt  *time.Time `json:"pushed_at,omitempty"`
	// CheckedAt is when the upstream last said so, of a tag that is mirrored.
	CheckedAt    *time.Time `json:"checked_at,omitempty"`
	LastPulledAt *time.Time `json:"last_pulled_at,omitempty"` // as far as that is known
	// Damaged says that its record, or that of its manifest, is: it is unknown to whoever
	// pulls it until it is pushed again.
	Damaged bool `json:"damaged,omitempty"`
}

// Manifest is a manifest, and what its config says.
type Manifest struct {
	Repository   string            `json:"repository"`
	Upstream     string            `json:"upstream,omitempty"`
	Digest       digest.Digest     `json:"digest"`
	MediaType    string            `json:"media_type"`
	Size         int64             `json:"size"` // of the manifest itself, bytes
	ArtifactType string            `json:"artifact_type,omitempty"`
	Subject      digest.Digest     `json:"subject,omitempty"`
	Annotations  map[string]string `json:"annotations"`
	Platform     string            `json:"platform,omitempty"` // os/arch, or os/arch/variant: the config's
	Created      *time.Time        `json:"created,omitempty"`
	Config       *Config           `json:"config,omitempty"`
	Layers       []Layer           `json:"layers"`
	History      []Step            `json:"history"`
	Manifests    []Child           `json:"manifests"` // of an index
	// Shortened says that a list in it, or in its config, has more than the thousand entries
	// that are shown of each.
	Shortened bool `json:"shortened,omitempty"`
}

// Config is the config of an image, as far as it is here and can be read.
type Config struct {
	Digest       digest.Digest     `json:"digest"`
	MediaType    string            `json:"media_type"`
	Size         int64             `json:"size"`
	Read         bool              `json:"read"` // whether what follows is what it says
	Author       string            `json:"author,omitempty"`
	User         string            `json:"user,omitempty"`
	WorkingDir   string            `json:"working_dir,omitempty"`
	StopSignal   string            `json:"stop_signal,omitempty"`
	Entrypoint   []string          `json:"entrypoint"`
	Cmd          []string          `json:"cmd"`
	Env          []string          `json:"env"`
	ExposedPorts []string          `json:"exposed_ports"`
	Volumes      []string          `json:"volumes"`
	Labels       map[string]string `json:"labels"`
}

// Layer is one layer, the lowest first, or what else a manifest of an artifact names.
type Layer struct {
	Digest      digest.Digest     `json:"digest"`
	MediaType   string            `json:"media_type"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Foreign     bool              `json:"foreign"` // it is to be had elsewhere, and not kept here
}

// Step is one of an image's history.
type Step struct {
	CreatedBy string     `json:"created_by"`
	Comment   string     `json:"comment,omitempty"`
	Created   *time.Time `json:"created,omitempty"`
	// Layer is the place in Layers of the one that it made; -1: it made none.
	Layer int `json:"layer"`
}

// Child is a manifest that an index names.
type Child struct {
	Digest       digest.Digest     `json:"digest"`
	MediaType    string            `json:"media_type"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifact_type,omitempty"`
	Platform     string            `json:"platform,omitempty"`
	Annotations  map[string]string `json:"annotations"`
	Here         bool              `json:"here"`
}

// Referrer is a manifest whose subject is another one.
type Referrer struct {
	Digest       digest.Digest     `json:"digest"`
	MediaType    string            `json:"media_type"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifact_type,omitempty"`
	Annotations  map[string]string `json:"annotations"`
}

// Upload is one that has begun and not ended.
type Upload struct {
	Repository string    `json:"repository"`
	Received   int64     `json:"received"` // bytes
	StartedAt  time.Time `json:"started_at"`
	UpdatedAt  time.Time `json:"updated_at"` // when bytes last came
}

// Fill is a blob that is being fetched from an upstream.
type Fill struct {
	Upstream   string        `json:"upstream"`
	Endpoint   string        `json:"endpoint,omitempty"` // host of the one that answered
	Repository string        `json:"repository"`         // its full name
	Digest     digest.Digest `json:"digest"`
	Size       *int64        `json:"size,omitempty"` // bytes, if the upstream said
	Received   int64         `json:"received"`       // bytes
	Followers  int           `json:"followers"`
}

// Upstream is a registry that images are mirrored from.
type Upstream struct {
	Name      string     `json:"name"`
	Aliases   []string   `json:"aliases"`
	Default   bool       `json:"default"`
	Endpoints []Endpoint `json:"endpoints"`
	Day       Day        `json:"day"`
}

// Endpoint is where an upstream is asked.
type Endpoint struct {
	Host         string     `json:"host"`
	Up           bool       `json:"up"`
	Latency      float64    `json:"latency,omitempty"`       // ms, a mean of the last answers
	LimitedUntil *time.Time `json:"limited_until,omitempty"` // it is left alone until then
	Limit        *int       `json:"ratelimit_limit,omitempty"`
	Remaining    *int       `json:"ratelimit_remaining,omitempty"`
}

// Event is one that a receiver is told of, or could not be told of.
type Event struct {
	ID         string        `json:"id"`
	Receiver   string        `json:"receiver"` // its name in the configuration
	Type       string        `json:"type"`     // e.g. io.weir.manifest.push
	Repository string        `json:"repository"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	Time       time.Time     `json:"time"`
	State      Outcome       `json:"state"`
	Attempts   int           `json:"attempts"`
	Error      string        `json:"error,omitempty"` // of the last attempt
}

// Outcome is what has become of an event that was not taken: one that was is forgotten.
type Outcome string

// The outcomes.
const (
	Pending Outcome = "pending"
	Dead    Outcome = "dead" // it was given up
)
