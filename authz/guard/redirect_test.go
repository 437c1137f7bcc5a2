package guard_test

import (
	"context"
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

// places gives one address, and counts.
type places struct{ asked int }

func (p *places) BlobURL(context.Context, origin.Repo, digest.Digest) (origin.Redirect, bool, error) {
	p.asked++
	return origin.Redirect{URL: "https://bucket/x"}, true, nil
}

// An address is a right to read: it is given to who may pull, and nobody is looked up for
// who may not.
func TestBlobURL(t *testing.T) {
	ann := authz.Identity{ID: "basic:ann", Method: authz.MethodBasic}
	var what authz.Access
	rights := rule(func(who authz.Identity, a authz.Access) bool {
		what = a
		return who.ID == ann.ID
	})
	p := &places{}
	g := guard.New(newLocal(t), rights, guard.Options{Redirects: p})
	d := digest.FromString("x")
	ctx, _ := as(t, authz.Identity{})
	if to, ok, err := g.BlobURL(ctx, repo(t, "team/app"), d); ok || to.URL != "" || !errors.Is(err, origin.ErrDenied) || p.asked != 0 {
		t.Errorf("nobody: %q, %v, %v after %d questions", to.URL, ok, err, p.asked)
	}
	if what.Action != authz.Pull || what.Operation != "get-blob" || what.Digest != d.String() || what.Repository != "team/app" {
		t.Errorf("decided on %+v", what)
	}
	ctx, _ = as(t, ann)
	if to, ok, err := g.BlobURL(ctx, repo(t, "team/app"), d); !ok || to.URL == "" || err != nil {
		t.Errorf("ann: %q, %v, %v", to.URL, ok, err)
	}
	what = authz.Access{}
	if _, ok, err := guard.New(newLocal(t), rights, guard.Options{}).BlobURL(ctx, repo(t, "team/app"), d); ok || err != nil || what.Action != "" {
		t.Errorf("without places: %v, %v, decided on %+v", ok, err, what)
	}
}
