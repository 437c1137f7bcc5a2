package view

import (
	"context"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

// Upstreams are those that something may be pulled from, and how this weir does.
type Upstreams struct {
	Upstreams []Upstream `json:"upstreams"`
	State
}

// State is how this weir does.
type State struct {
	Version string  `json:"version"`
	Cache   *Cache  `json:"cache,omitempty"` // nil: that is not said
	Replica Replica `json:"replica"`
}

// Cache is what is kept of what is mirrored.
type Cache struct {
	Known bool  `json:"known"`              // whether it is counted: it is not where blobs are kept elsewhere
	Bytes int64 `json:"bytes"`              // of blobs
	Most  int64 `json:"max_size,omitempty"` // that are kept; 0: no limit
	Disk  *Disk `json:"disk,omitempty"`     // nil: not known
}

// Disk is the file system that blobs are on, in bytes.
type Disk struct {
	Free  int64 `json:"free"`
	Total int64 `json:"total"`
}

// Replica is what this weir is among those over the same store.
type Replica struct {
	Alone     bool   `json:"alone"`               // there are no others
	Current   bool   `json:"current"`             // it is told at once what others write
	Advertise string `json:"advertise,omitempty"` // where others find it; "": they do not, or that is not said
	Others    []Peer `json:"others"`              // that said lately that they are there
}

// Peer is another replica, as it says itself.
type Peer struct {
	Advertise string    `json:"advertise,omitempty"` // where it is found; "": that is not said
	Version   string    `json:"version"`
	Started   time.Time `json:"started_at"`
	Fills     int       `json:"fills"`    // blobs that it is fetching
	Uploads   int       `json:"uploads"`  // that it takes
	Heard     time.Time `json:"heard_at"` // when it last said so
}

// Upstreams lists those that something may be pulled from, each with its last day, and says
// how this weir does. How much is kept shows that somebody pulls, so it is for who might pull
// whatever it is; where replicas find each other is the operator's.
func (v *View) Upstreams(ctx context.Context) (Upstreams, error) {
	if err := v.listing(ctx, "upstreams"); err != nil {
		return Upstreams{}, err
	}
	u := Upstreams{append([]Upstream{}, v.opts.Activity.Upstreams(ctx)...), v.opts.Activity.State()}
	for i := range u.Upstreams {
		u.Upstreams[i].Day = v.opts.History.Day(u.Upstreams[i].Name)
	}
	u.Replica.Others = append([]Peer{}, u.Replica.Others...)
	operates := v.opts.Guard.May(ctx, origin.Repo{}, authz.Access{Action: authz.Admin, Operation: "get-config"})
	if !operates && !v.opts.Guard.May(ctx, origin.Repo{}, authz.Access{Action: authz.Pull, Operation: "get-blob"}) {
		u.Cache = nil
	}
	if !operates {
		u.Replica.Advertise = ""
		for i := range u.Replica.Others {
			u.Replica.Others[i].Advertise = ""
		}
	}
	return u, nil
}

// Config gives the effective configuration, without its secrets. It is the operator's.
// Errors: origin.ErrUnauthorized, origin.ErrDenied.
func (v *View) Config(ctx context.Context) ([]byte, error) {
	if err := v.opts.Guard.Allow(ctx, origin.Repo{}, authz.Access{Action: authz.Admin, Operation: "get-config"}); err != nil {
		return nil, err
	}
	return v.opts.Config()
}

// Rights are what whoever asks may do.
type Rights struct {
	Who        authz.Identity
	Repository string                // "": what follows is about none
	May        map[authz.Action]bool // pull, push and delete about the repository, list and admin about none
}

// Rights says who asks, and what they may do; to a repository, by its name, if it is not "".
// Errors: origin.ErrNameInvalid.
func (v *View) Rights(ctx context.Context, repository string) (Rights, error) {
	r := Rights{Who: guard.Who(ctx), May: map[authz.Action]bool{}}
	for action, operation := range map[authz.Action]string{authz.List: "list-catalog", authz.Admin: "get-config"} {
		r.May[action] = v.opts.Guard.May(ctx, origin.Repo{}, authz.Access{Action: action, Operation: operation})
	}
	if repository == "" {
		return r, nil
	}
	repo, _, err := v.find(ctx, repository)
	if origin.Unknown(err) {
		repo, err = origin.ParseRepo(repository)
	}
	if err != nil {
		return r, err
	}
	r.Repository = repo.String()
	for action, operation := range map[authz.Action]string{authz.Pull: "get-manifest", authz.Push: "start-upload", authz.Delete: "delete-manifest"} {
		r.May[action] = v.opts.Guard.May(ctx, repo, authz.Access{Action: action, Operation: operation})
	}
	return r, nil
}

// MayDelete reports whether whoever asks may delete something of a repository.
func (v *View) MayDelete(ctx context.Context, repository string, ref origin.Ref) bool {
	if !v.opts.Deletes {
		return false
	}
	repo, _, err := v.find(ctx, repository)
	operation := "delete-manifest"
	if ref.Tag() != "" {
		operation = "delete-tag"
	}
	return err == nil && v.opts.Guard.May(ctx, repo, authz.Access{
		Action: authz.Delete, Operation: operation, Tag: ref.Tag(), Digest: ref.Digest().String(),
	})
}

// Delete deletes a tag, or a manifest with its tags; of what is mirrored it drops what is
// kept. Errors: those of origin.Deleter and of a guard; origin.ErrNameInvalid.
func (v *View) Delete(ctx context.Context, repository string, ref origin.Ref) error {
	repo, _, err := v.find(ctx, repository)
	if err != nil {
		return err
	}
	return v.opts.Deleter.DeleteManifest(ctx, repo, ref)
}
