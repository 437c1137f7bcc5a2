package guard_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/mem"
)

// rule is an Authorizer in a function.
type rule func(who authz.Identity, what authz.Access) bool

func (r rule) Authorize(_ context.Context, who authz.Identity, what authz.Access) error {
	if r(who, what) {
		return nil
	}
	return &authz.Denial{By: "rule"}
}

func everything(authz.Identity, authz.Access) bool { return true }

func newLocal(t testing.TB) *local.Registry {
	t.Helper()
	r, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// as gives a context in which somebody asks.
func as(t *testing.T, who authz.Identity) (context.Context, *origin.Request) {
	t.Helper()
	r := &origin.Request{Principal: who}
	return origin.WithRequest(t.Context(), r), r
}

// spy counts the calls that come through.
type spy struct {
	origin.Registry
	calls int
}

func (s *spy) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	s.calls++
	return s.Registry.Resolve(ctx, repo, ref)
}

func repo(t *testing.T, name string) origin.Repo {
	t.Helper()
	r, err := origin.ParseRepo(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tag(t *testing.T, name string) origin.Ref {
	t.Helper()
	r, err := origin.ParseTag(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// push puts an empty image into a registry, under a tag.
func push(t *testing.T, r origin.Registry, name, tagName string) {
	t.Helper()
	ctx, to := t.Context(), repo(t, name)
	in, err := r.Upload(ctx, to, "", digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	config := []byte("{}")
	if _, err := in.Write(config); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Commit(ctx, digest.FromBytes(config)); err != nil {
		t.Fatal(err)
	}
	b := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[],"annotations":{"for":%q}}`,
		"application/vnd.oci.image.manifest.v1+json", digest.FromBytes(config), name+":"+tagName)
	m := origin.Manifest{Bytes: b}
	m.MediaType, m.Digest, m.Size = "application/vnd.oci.image.manifest.v1+json", digest.FromBytes(b), int64(len(b))
	if _, err := r.Push(ctx, to, m, origin.PushOptions{Tags: []origin.Ref{tag(t, tagName)}}); err != nil {
		t.Fatal(err)
	}
}

// TestNothingIsLost: where everything is granted a registry is what it was, but for
// mounts from nowhere.
func TestNothingIsLost(t *testing.T) {
	origintest.Test(t, func(t testing.TB) origin.Registry {
		return guard.New(newLocal(t), rule(everything), guard.Options{})
	})
}

func asks(context.Context, authz.Scope, bool) []string { return []string{"Basic"} }

// TestNobodyCanSayWho: where there is no way to say who one is, nobody is asked to.
func TestNobodyCanSayWho(t *testing.T) {
	g := guard.New(newLocal(t), rule(func(authz.Identity, authz.Access) bool { return false }), guard.Options{
		Refusal: func(authz.Identity, authz.Access, error) (string, string) { return "not from here", "add a line" },
	})
	ctx, request := as(t, authz.Identity{})
	_, err := g.Resolve(ctx, repo(t, "team/app"), tag(t, "v1"))
	if e, ok := errors.AsType[*origin.Error](err); !ok || !errors.Is(err, origin.ErrDenied) || e.Message != "not from here" || request.Challenge != nil {
		t.Errorf("%v, challenge %q", err, request.Challenge)
	}
}

// TestDecidedFirst: what is denied is not looked for, and is denied alike whether it
// is there or not; nobody is asked who they are, somebody is refused.
func TestDecidedFirst(t *testing.T) {
	inner := newLocal(t)
	push(t, inner, "team/app", "v1")
	watched := &spy{Registry: inner}
	g := guard.New(watched, rule(func(authz.Identity, authz.Access) bool { return false }), guard.Options{
		Challenge: func(_ context.Context, needs authz.Scope, lacking bool) []string {
			return []string{fmt.Sprintf("Bearer scope=%q lacking=%v", needs, lacking)}
		},
	})
	for _, test := range []struct {
		who  authz.Identity
		want error
	}{
		{authz.Identity{}, origin.ErrUnauthorized},
		{authz.Identity{ID: "basic:eve"}, origin.ErrDenied},
	} {
		for _, name := range []string{"team/app", "team/none"} {
			ctx, request := as(t, test.who)
			_, err := g.Resolve(ctx, repo(t, name), tag(t, "v1"))
			if !errors.Is(err, test.want) {
				t.Errorf("%q at %s: %v, want %v", test.who.ID, name, err, test.want)
			}
			if asked := len(request.Challenge) > 0; asked != (test.want == origin.ErrUnauthorized) {
				t.Errorf("challenge %q", request.Challenge)
			}
		}
	}
	if watched.calls != 0 {
		t.Errorf("%d calls came through", watched.calls)
	}
}

// TestLackingScope: a token that does not cover what its owner may do is asked for
// another; one whose owner may not is refused.
func TestLackingScope(t *testing.T) {
	g := guard.New(newLocal(t), rule(func(_ authz.Identity, what authz.Access) bool { return what.Action != authz.Delete }), guard.Options{
		Challenge: func(_ context.Context, needs authz.Scope, lacking bool) []string {
			return []string{fmt.Sprint(needs, lacking)}
		},
	})
	app := repo(t, "team/app")
	who := authz.Identity{ID: "basic:ann", Method: authz.MethodToken, Scope: authz.Needs(authz.Access{Action: authz.Pull, Repository: "team/app"})}
	ctx, request := as(t, who)
	if _, err := g.Upload(ctx, app, "", digest.SHA256); !errors.Is(err, origin.ErrUnauthorized) {
		t.Errorf("push with a token for pull: %v", err)
	}
	if want := []string{"repository:team/app:pull,push true"}; !slices.Equal(request.Challenge, want) {
		t.Errorf("challenge %q, want %q", request.Challenge, want)
	}
	ctx, _ = as(t, who)
	if err := g.DeleteManifest(ctx, app, tag(t, "v1")); !errors.Is(err, origin.ErrDenied) {
		t.Errorf("delete: %v", err)
	}
	if _, err := g.Resolve(ctx, app, tag(t, "v1")); !errors.Is(err, origin.ErrManifestUnknown) {
		t.Errorf("pull: %v", err)
	}
}

// A token for the catalog is shown what may be pulled, and can pull none of it.
func TestCatalogTokensShow(t *testing.T) {
	g := guard.New(newLocal(t), rule(func(authz.Identity, authz.Access) bool { return true }), guard.Options{})
	app, pull := repo(t, "team/app"), authz.Access{Action: authz.Pull, Operation: "get-blob"}
	for _, c := range []struct {
		scope    authz.Scope
		may, can bool
	}{
		{nil, true, true},
		{authz.Scope{}, false, false},
		{authz.Needs(authz.Access{Action: authz.List}), true, false},
		{authz.Needs(authz.Access{Action: authz.Pull, Repository: "team/app"}), true, true},
		{authz.Needs(authz.Access{Action: authz.Pull, Repository: "team/other"}), false, false},
	} {
		ctx, _ := as(t, authz.Identity{ID: "basic:ann", Method: authz.MethodToken, Scope: c.scope})
		if may, can := g.May(ctx, app, pull), g.Can(ctx, app, pull); may != c.may || can != c.can {
			t.Errorf("%v: may %v, can %v", c.scope, may, can)
		}
	}
}
