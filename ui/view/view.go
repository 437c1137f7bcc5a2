package view

import (
	"context"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

// Here is the registry as far as it is here: it asks no upstream. Its names are full.
type Here interface {
	origin.Reader
	origin.Catalog
	// Tagged gives what is known of a tag besides what it names; times may be zero.
	Tagged(ctx context.Context, repo origin.Repo, tag string) (pushed, checked time.Time, err error)
	// Pulled looks up when what is in a repository was pulled last, and gives what says it
	// of a tag and the manifest that it names; zero: that is not known.
	Pulled(ctx context.Context, repo origin.Repo) (func(tag origin.Ref, m origin.Manifest, c origin.Content) time.Time, error)
}

// Activity is what goes on now. Nobody's rights have been asked for: View does that.
type Activity interface {
	Fills() []Fill
	Uploads() []Upload
	// Upstreams gives those of which whoever asks may pull something, by name; Day is left
	// to View.
	Upstreams(ctx context.Context) []Upstream
	State() State
}

// Events is what becomes of events.
type Events interface {
	// Events gives those that wait, and those that were given up if these are asked for.
	Events(ctx context.Context, dead bool) ([]Event, error)
}

// Options are what a View is made of.
type Options struct {
	Here  Here
	Guard *guard.Guard // before Here, with the same names
	// Locate gives the full name of what people call a repository.
	Locate   func(ctx context.Context, repo origin.Repo) (full origin.Repo, upstream string, err error)
	Activity Activity
	History  *History
	// Deleter is the registry as clients see it, behind a guard; Deletes says whether it
	// deletes anything, for anybody.
	Deleter origin.Deleter
	Deletes bool
	// Config gives the effective configuration, without its secrets.
	Config func() ([]byte, error)
	Events Events // nil: there are none
	// Explain says where an image comes from, whoever asks: it sees to their rights.
	Explain func(ctx context.Context, image string) (origin.Explanation, error)
}

// View is what whoever asks is shown. Who that is is in the request ([guard.Who]).
type View struct{ opts Options }

// New makes a View.
func New(o Options) *View { return &View{opts: o} }

// listing asks for the right to list. Errors: origin.ErrUnauthorized, origin.ErrDenied.
func (v *View) listing(ctx context.Context, name string) error {
	return v.opts.Guard.Allow(ctx, origin.Repo{}, authz.Access{Action: authz.List, Operation: "list-" + name})
}

// MayList asks for the right to list anything at all. Errors: origin.ErrUnauthorized,
// origin.ErrDenied.
func (v *View) MayList(ctx context.Context) error { return v.listing(ctx, "catalog") }

// find gives the full name of a repository, and where it is mirrored from. A name that is
// none, or leads nowhere, is that of a repository that does not exist.
func (v *View) find(ctx context.Context, name string) (full origin.Repo, upstream string, err error) {
	repo, err := origin.ParseRepo(name)
	if err != nil {
		return origin.Repo{}, "", err
	}
	full, upstream, err = v.opts.Locate(ctx, repo)
	if origin.Unknown(err) {
		err = unknownRepository(name)
	}
	return full, upstream, err
}

func unknownRepository(name string) error {
	return origin.Errorf(origin.ErrNameUnknown, "repository %s is unknown", origin.Quote(name))
}

// Explain says where an image comes from, what of it is here, and why.
func (v *View) Explain(ctx context.Context, image string) (origin.Explanation, error) {
	if err := v.listing(ctx, "explain"); err != nil {
		return origin.Explanation{}, err
	}
	return v.opts.Explain(ctx, image)
}

// when is a time that may not be known, or be none that JSON has: an image may say that it
// was made in the last hour of 9999, to the west of here.
func when(t time.Time) *time.Time {
	if t = t.UTC(); t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return nil
	}
	return &t
}
