package view

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

// Fills lists what is being fetched, of what may be pulled.
func (v *View) Fills(ctx context.Context, p origin.Page) (origin.List[Fill], error) {
	if err := v.listing(ctx, "fills"); err != nil {
		return origin.List[Fill]{}, err
	}
	return running(ctx, v, "fills", v.opts.Activity.Fills(), p,
		func(f Fill) string { return f.Repository + "@" + f.Digest.String() },
		func(f Fill) (string, authz.Access) {
			return f.Repository, authz.Access{Action: authz.Pull, Operation: "get-blob", Digest: f.Digest.String()}
		})
}

// Uploads lists those that have begun and not ended, to what may be pulled.
func (v *View) Uploads(ctx context.Context, p origin.Page) (origin.List[Upload], error) {
	if err := v.listing(ctx, "uploads"); err != nil {
		return origin.List[Upload]{}, err
	}
	return running(ctx, v, "uploads", v.opts.Activity.Uploads(), p,
		func(u Upload) string { return fmt.Sprintf("%s@%s", u.Repository, u.StartedAt.Format(time.RFC3339Nano)) },
		func(u Upload) (string, authz.Access) {
			return u.Repository, authz.Access{Action: authz.Pull, Operation: "list-tags"}
		})
}

// Events lists what became of events about what may be pulled. Those that were given up
// are the operator's.
func (v *View) Events(ctx context.Context, p origin.Page) (origin.List[Event], error) {
	if err := v.listing(ctx, "events"); err != nil || v.opts.Events == nil {
		return origin.List[Event]{}, err
	}
	dead := v.opts.Guard.May(ctx, origin.Repo{}, authz.Access{Action: authz.Admin, Operation: "list-events"})
	events, err := v.opts.Events.Events(ctx, dead)
	if err != nil {
		return origin.List[Event]{}, err
	}
	return running(ctx, v, "events", events, p,
		func(e Event) string { // the last first
			return fmt.Sprintf("%019d@%s@%s", math.MaxInt64-max(0, e.Time.UnixNano()), e.ID, e.Receiver)
		},
		func(e Event) (string, authz.Access) {
			return e.Repository, authz.Access{Action: authz.Pull, Operation: "get-manifest", Tag: e.Tag, Digest: e.Digest.String()}
		})
}

// running gives a page of what is going on. What has no repository that exists is shown to
// nobody.
func running[T any](
	ctx context.Context, v *View, of string, all []T, p origin.Page, name func(T) string, what func(T) (repository string, what authz.Access),
) (origin.List[T], error) {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b T) int { return strings.Compare(name(a), name(b)) })
	all = slices.DeleteFunc(all, func(item T) bool {
		repository, _ := what(item)
		_, err := origin.ParseRepo(repository)
		return err != nil
	})
	p.N = min(p.N, mostShown)
	return guard.List(ctx, v.opts.Guard, guard.Listing[T]{
		Of: of,
		Page: func(p origin.Page) (origin.List[T], error) {
			from, _ := slices.BinarySearchFunc(all, p.After+"\x00", func(item T, after string) int { return strings.Compare(name(item), after) })
			rest := all[from:]
			return origin.List[T]{Items: rest[:min(len(rest), p.N)], More: len(rest) > p.N}, nil
		},
		Name: name,
		What: func(item T) (origin.Repo, authz.Access) {
			repository, access := what(item)
			repo, _ := origin.ParseRepo(repository) // it was one
			return repo, access
		},
	}, p)
}
