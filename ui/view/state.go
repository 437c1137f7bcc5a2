package view

import (
	"context"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

// State is how this weir does.
type State struct {
	Version string
	Cache   Cache
	Replica Replica
}

// Cache is what is kept of what is mirrored.
type Cache struct {
	Known bool  // whether it is counted: it is not where blobs are kept elsewhere
	Bytes int64 // of blobs
	Most  int64 // that are kept; 0: no limit
	Free  int64 // bytes of its file system; -1: not known
	Total int64 // size of its file system, bytes; -1: not known
}

// Replica is what this weir is among those over the same store.
type Replica struct {
	Alone     bool   // there are no others
	Current   bool   // it is told at once what others write
	Advertise string // where others find it; "": they do not, or that is not said
	Others    []Peer // that said lately that they are there
}

// Peer is another replica, as it says itself.
type Peer struct {
	Advertise string // where it is found; "": that is not said
	Version   string
	Started   time.Time
	Fills     int       // blobs that it is fetching
	Uploads   int       // that it takes
	Heard     time.Time // when it last said so
}

// State gives how this weir does, to whoever may list. Where replicas find each other is
// the operator's.
func (v *View) State(ctx context.Context) (State, error) {
	if err := v.listing(ctx, "state"); err != nil {
		return State{}, err
	}
	s := v.opts.Activity.State()
	if !s.Replica.Alone && !v.opts.Guard.May(ctx, origin.Repo{}, authz.Access{Action: authz.Admin, Operation: "get-config"}) {
		s.Replica.Advertise = ""
		for i := range s.Replica.Others {
			s.Replica.Others[i].Advertise = ""
		}
	}
	return s, nil
}

// Day gives the last day of an upstream that is among those of Upstreams.
func (v *View) Day(upstream string) (points []Point, all Point) {
	return v.opts.History.Day(upstream)
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
