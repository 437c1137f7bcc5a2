package guard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

// TestListsShowWhatMayBePulled: page by page exactly what may be pulled comes, in
// order, and no mark tells what does not.
func TestListsShowWhatMayBePulled(t *testing.T) {
	inner := newLocal(t)
	var want []string
	for i := range 450 {
		name := fmt.Sprintf("r%03d/secret", i)
		if i%100 == 99 {
			name = fmt.Sprintf("r%03d/open", i)
			want = append(want, name)
		}
		push(t, inner, name, "v1")
	}
	g := guard.New(inner, rule(func(_ authz.Identity, what authz.Access) bool {
		return what.Action == authz.List || strings.HasSuffix(what.Repository, "/open")
	}), guard.Options{})
	for _, n := range []int{1, 2, 1000} {
		var got []string
		after := ""
		for pages := 0; ; pages++ {
			ctx, _ := as(t, authz.Identity{ID: "basic:eve"})
			list, err := g.Repos(ctx, origin.Page{After: after, N: n})
			if err != nil || pages > 10 {
				t.Fatal(pages, err)
			}
			for _, r := range list.Items {
				got = append(got, r.String())
			}
			if !list.More {
				break
			}
			if after = list.Next; after == "" {
				after = got[len(got)-1]
			} else if strings.Contains(after, "secret") || !origin.IsMark(after) {
				t.Errorf("next is %q", after)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %q, want %q", n, got, want)
		}
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

// far is a rule that is asked over the network: it takes its time.
type far struct {
	rule
	takes time.Duration
	count *atomic.Int64
	most  *atomic.Int64 // that were asked at a time
	now   *atomic.Int64
}

func newFar(r rule, takes time.Duration) far {
	return far{r, takes, new(atomic.Int64), new(atomic.Int64), new(atomic.Int64)}
}

func (far) Remote() bool { return true }

func (f far) Authorize(ctx context.Context, who authz.Identity, what authz.Access) error {
	n := f.now.Add(1)
	defer f.now.Add(-1)
	for m := f.most.Load(); n > m && !f.most.CompareAndSwap(m, n); m = f.most.Load() {
	}
	f.count.Add(1)
	select {
	case <-time.After(f.takes):
		return f.rule.Authorize(ctx, who, what)
	case <-ctx.Done():
		return &authz.Denial{By: "far", Cause: ctx.Err()}
	}
}

// TestListsTakeTheirTime: 8 decisions at a time and for 5 s, then a short page whose
// mark leads on; nothing is left out for want of time, and each page makes progress.
func TestListsTakeTheirTime(t *testing.T) {
	for name, x := range map[string]struct {
		takes time.Duration
		most  time.Duration // of a request
		all   bool          // everything is shown in the end
	}{
		"fast":               {time.Millisecond, time.Second, true},
		"slow":               {2 * time.Second, 5 * time.Second, true},
		"longer than a list": {time.Minute, 5 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := newLocal(t)
				var want []string
				for i := range 30 {
					name := fmt.Sprintf("r%02d", i)
					if i%3 != 0 {
						want = append(want, name)
					}
					push(t, inner, name, "v1")
				}
				rights := newFar(func(_ authz.Identity, what authz.Access) bool {
					return what.Action == authz.List || slices.Contains(want, what.Repository)
				}, x.takes)
				g := guard.New(inner, listed{rights}, guard.Options{})
				var got []string
				after, pages := "", 0
				for ; pages <= 30; pages++ {
					ctx, _ := as(t, authz.Identity{ID: "basic:eve"})
					begin := time.Now()
					list, err := g.Repos(ctx, origin.Page{After: after, N: 1000})
					if err != nil {
						t.Fatal(err)
					}
					if took := time.Since(begin); took > x.most {
						t.Fatalf("a page took %v", took)
					}
					for _, r := range list.Items {
						got = append(got, r.String())
					}
					if !list.More {
						break
					}
					if after = list.Next; after == "" {
						after = got[len(got)-1]
					}
				}
				if pages > 30 || x.all && !slices.Equal(got, want) || !x.all && len(got) > 0 {
					t.Errorf("%q after %d pages, want %q", got, pages, want)
				}
				if rights.most.Load() > 8 {
					t.Errorf("%d decisions at a time", rights.most.Load())
				}
			})
		})
	}
}

// listed answers for lists at once, and leaves the rest to a far one.
type listed struct{ far }

func (l listed) Authorize(ctx context.Context, who authz.Identity, what authz.Access) error {
	if what.Action == authz.List {
		return nil
	}
	return l.far.Authorize(ctx, who, what)
}

// TestListsAreBounded: a page of anything costs 200 decisions at most.
func TestListsAreBounded(t *testing.T) {
	inner := newLocal(t)
	for i := range 250 {
		push(t, inner, "team/app", fmt.Sprintf("t%03d", i))
	}
	rights := newFar(func(_ authz.Identity, what authz.Access) bool { return what.Tag == "" || what.Tag > "t100" }, 0)
	g := guard.New(inner, rights, guard.Options{})
	ctx, _ := as(t, authz.Identity{ID: "basic:eve"})
	list, err := g.Tags(ctx, repo(t, "team/app"), origin.Page{N: 1000})
	if err != nil || len(list.Items) != 99 || !list.More || rights.count.Load() != 201 {
		t.Fatalf("%d tags, more %v, %d decisions, %v", len(list.Items), list.More, rights.count.Load(), err)
	}
	next, err := g.Tags(ctx, repo(t, "team/app"), origin.Page{N: 1000, After: list.Items[98]})
	if err != nil || len(next.Items) != 50 || next.More || next.Items[0] != "t200" {
		t.Errorf("then %d, more %v, %v", len(next.Items), next.More, err)
	}
}

// TestMarksAreOfOneList: a mark opens where it was made and nowhere else: in a list of
// one's own it would tell where the hidden name stands among one's own. The same place
// has many marks.
func TestMarksAreOfOneList(t *testing.T) {
	inner := newLocal(t)
	push(t, inner, "a/open", "v1")
	for i := range 201 {
		push(t, inner, fmt.Sprintf("h%03d", i), "v1")
	}
	g := guard.New(inner, rule(func(_ authz.Identity, what authz.Access) bool {
		return what.Action == authz.List || what.Repository == "a/open"
	}), guard.Options{})
	ctx, _ := as(t, authz.Identity{ID: "basic:eve"})
	marks := map[string]bool{}
	for range 2 {
		list, err := g.Repos(ctx, origin.Page{N: 10})
		if err != nil || !origin.IsMark(list.Next) || len(list.Items) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		marks[list.Next] = true
		if rest, err := g.Repos(ctx, origin.Page{N: 10, After: list.Next}); err != nil || len(rest.Items) != 0 || rest.More {
			t.Errorf("its own list: %+v, %v", rest, err)
		}
		if _, err := g.Tags(ctx, repo(t, "a/open"), origin.Page{N: 10, After: list.Next}); !errors.Is(err, origin.ErrNameInvalid) {
			t.Errorf("another list: %v", err)
		}
	}
	if len(marks) != 2 {
		t.Error("the same place has the same mark")
	}
}

// TestMarksOutliveAGuard: a list goes on where another guard of the same key serves, as after
// a reload, or at another replica; and not with one of another key.
func TestMarksOutliveAGuard(t *testing.T) {
	inner := newLocal(t)
	for i := range 201 {
		push(t, inner, fmt.Sprintf("h%03d", i), "v1")
	}
	with := func(key []byte) *guard.Guard {
		return guard.New(inner, rule(func(_ authz.Identity, what authz.Access) bool { return what.Action == authz.List }), guard.Options{Key: key})
	}
	ctx, _ := as(t, authz.Identity{ID: "basic:eve"})
	key := bytes.Repeat([]byte{1}, guard.KeySize)
	list, err := with(key).Repos(ctx, origin.Page{N: 10})
	if err != nil || !origin.IsMark(list.Next) {
		t.Fatalf("%+v, %v", list, err)
	}
	if rest, err := with(key).Repos(ctx, origin.Page{N: 10, After: list.Next}); err != nil || rest.More {
		t.Errorf("another guard: %+v, %v", rest, err)
	}
	for _, other := range [][]byte{nil, bytes.Repeat([]byte{2}, guard.KeySize)} {
		if _, err := with(other).Repos(ctx, origin.Page{N: 10, After: list.Next}); !errors.Is(err, origin.ErrNameInvalid) {
			t.Errorf("another key: %v", err)
		}
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

// TestDenialsAreAudited: who was denied what, and by which rule, is written down: at info
// where that was the last word, at debug where a client is asked who it is.
func TestDenialsAreAudited(t *testing.T) {
	for _, c := range []struct {
		name      string
		who       authz.Identity
		challenge []string
		level     string
	}{
		{"somebody", authz.Identity{Method: authz.MethodBasic, ID: "basic:ann"}, []string{"Basic"}, "INFO"},
		{"nobody, who can say nothing", authz.Identity{Method: authz.MethodNone}, nil, "INFO"},
		{"nobody yet", authz.Identity{Method: authz.MethodNone}, []string{"Basic"}, "DEBUG"},
	} {
		var lines bytes.Buffer
		g := guard.New(origin.None{}, denies{}, guard.Options{
			Challenge: func(context.Context, authz.Scope, bool) []string { return c.challenge },
			Log:       slog.New(slog.NewJSONHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		repo, err := origin.ParseRepo("team/app")
		if err != nil {
			t.Fatal(err)
		}
		ctx := origin.WithRequest(t.Context(), &origin.Request{ID: "trace", Principal: c.who})
		if _, err := g.Tags(ctx, repo, origin.Page{}); err == nil {
			t.Error("allowed")
		}
		var entry map[string]any
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			t.Fatalf("%s: %v in %s", c.name, err, &lines)
		}
		for key, want := range map[string]any{
			"msg": "denied", "level": c.level, "identity": c.who.ID, "rule": "authz.policy.deny[0]",
			"action": "pull", "repository": "team/app", "trace_id": "trace",
		} {
			if entry[key] != want {
				t.Errorf("%s: %s is %v, want %v", c.name, key, entry[key], want)
			}
		}
	}
}

// denies is a policy that lets nobody do anything.
type denies struct{}

func (denies) Authorize(context.Context, authz.Identity, authz.Access) error {
	return &authz.Denial{By: "authz.policy.deny[0]"}
}
