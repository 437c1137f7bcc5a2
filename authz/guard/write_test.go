package guard_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

// TestMountIsNoOracle: from where one may not read nothing can be mounted, and it
// looks as if nothing were there.
func TestMountIsNoOracle(t *testing.T) {
	inner := newLocal(t)
	push(t, inner, "secret/app", "v1")
	push(t, inner, "open/app", "v1")
	g := guard.New(inner, rule(func(_ authz.Identity, what authz.Access) bool {
		return !strings.HasPrefix(what.Repository, "secret/")
	}), guard.Options{})
	ctx, _ := as(t, authz.Identity{ID: "basic:eve"})
	to, d := repo(t, "eve/app"), digest.FromString("{}")
	for name, want := range map[string]error{"secret/app": origin.ErrBlobUnknown, "secret/none": origin.ErrBlobUnknown, "open/app": nil} {
		if _, err := g.Mount(ctx, repo(t, name), to, d); !errors.Is(err, want) {
			t.Errorf("from %s: %v, want %v", name, err, want)
		}
	}
	if _, err := g.Mount(ctx, origin.Repo{}, to, d); !errors.Is(err, origin.ErrBlobUnknown) {
		t.Errorf("from nowhere: %v", err)
	}
	if _, err := g.Mount(ctx, repo(t, "open/app"), repo(t, "secret/app"), d); !errors.Is(err, origin.ErrDenied) {
		t.Errorf("to where one may not push: %v", err)
	}
}

// TestSessionsBelongToSomebody: an upload that somebody began is unknown to others.
func TestSessionsBelongToSomebody(t *testing.T) {
	g := guard.New(newLocal(t), rule(everything), guard.Options{})
	app := repo(t, "team/app")
	ann, _ := as(t, authz.Identity{ID: "basic:ann"})
	in, err := g.Upload(ann, app, "", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	for _, who := range []authz.Identity{{ID: "basic:eve"}, {}} {
		ctx, _ := as(t, who)
		if _, err := g.Upload(ctx, app, in.ID(), ""); !errors.Is(err, origin.ErrUploadUnknown) {
			t.Errorf("%q: %v", who.ID, err)
		}
	}
	again, err := g.Upload(ann, app, in.ID(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Cancel(); err != nil {
		t.Fatal(err)
	}
}

// uniform is a rule that does not depend on which repository it is.
type uniform struct{ rule }

func (uniform) Uniform(string) bool { return true }

// TestMountFromAnywhere: where one decision is for all repositories, a mount that does
// not say from where looks into them; a token that is bound to some does not.
func TestMountFromAnywhere(t *testing.T) {
	inner := newLocal(t)
	push(t, inner, "team/app", "v1")
	g := guard.New(inner, uniform{everything}, guard.Options{})
	d := digest.FromString("{}")
	ctx, _ := as(t, authz.Identity{})
	_, direct := inner.Mount(ctx, origin.Repo{}, repo(t, "eve/app"), d)
	if _, err := g.Mount(ctx, origin.Repo{}, repo(t, "eve/app"), d); !errors.Is(err, direct) {
		t.Errorf("%v, want %v", err, direct)
	}
	bound := authz.Identity{ID: "basic:eve", Scope: authz.Needs(authz.Access{Action: authz.Push, Repository: "eve/app"})}
	ctx, _ = as(t, bound)
	if _, err := g.Mount(ctx, origin.Repo{}, repo(t, "eve/app"), d); !errors.Is(err, origin.ErrBlobUnknown) {
		t.Errorf("bound: %v", err)
	}
}

// TestAdmit: who may push nothing is told before the bytes come, unless a rule might look
// at them.
func TestAdmit(t *testing.T) {
	nothing := rule(func(authz.Identity, authz.Access) bool { return false })
	for _, x := range []struct {
		rights authz.Authorizer
		who    string
		want   error
	}{
		{uniform{nothing}, "", origin.ErrUnauthorized},
		{uniform{nothing}, "basic:eve", origin.ErrDenied},
		{uniform{everything}, "basic:eve", nil},
		{nothing, "basic:eve", nil},
	} {
		ctx, _ := as(t, authz.Identity{ID: x.who})
		if err := guard.New(newLocal(t), x.rights, guard.Options{Challenge: asks}).Admit(ctx, repo(t, "team/app")); !errors.Is(err, x.want) {
			t.Errorf("%q: %v, want %v", x.who, err, x.want)
		}
	}
}
