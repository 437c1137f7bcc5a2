package guard_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

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

// TestNothingAskedFor: where no item is asked for none is shown, and nothing of whether
// there are any, whatever the list that is behind it gives.
func TestNothingAskedFor(t *testing.T) {
	g := guard.New(newLocal(t), rule(func(authz.Identity, authz.Access) bool { return false }), guard.Options{})
	ctx, _ := as(t, authz.Identity{ID: "basic:eve"})
	for _, n := range []int{0, -1} {
		list, err := guard.List(ctx, g, guard.Listing[string]{
			Of: "tags",
			Page: func(origin.Page) (origin.List[string], error) {
				return origin.List[string]{Items: []string{"secret"}, More: true, Next: "secret"}, nil
			},
			Name: func(tag string) string { return tag },
			What: func(string) (origin.Repo, authz.Access) {
				return repo(t, "team/app"), authz.Access{Action: authz.Pull, Operation: "get-manifest"}
			},
		}, origin.Page{N: n})
		if err != nil || len(list.Items) > 0 || list.More || list.Next != "" {
			t.Errorf("of %d: %+v, %v", n, list, err)
		}
	}
}

// TestShortPagesEndOurs: a page that ends early, since it is heavy or took long to find, is
// all that is asked for at once; what is left is where it leads.
func TestShortPagesEndOurs(t *testing.T) {
	g := guard.New(newLocal(t), rule(func(_ authz.Identity, what authz.Access) bool { return what.Tag != "b" }), guard.Options{})
	ctx, _ := as(t, authz.Identity{ID: "basic:eve"})
	asked := 0
	// Each has its next one, and what is found where there is nothing leads on.
	pages := map[string]origin.List[string]{
		"":  {Items: []string{"a"}, More: true},
		"a": {Items: []string{"b"}, More: true},
		"b": {More: true, Next: "c"},
		"c": {Items: []string{"d"}, More: true, Next: "e"},
		"e": {Items: []string{"f"}},
	}
	list := guard.Listing[string]{
		Of: "tags",
		Page: func(p origin.Page) (origin.List[string], error) {
			asked++
			return pages[p.After], nil
		},
		Name: func(tag string) string { return tag },
		What: func(tag string) (origin.Repo, authz.Access) {
			return repo(t, "team/app"), authz.Access{Action: authz.Pull, Operation: "get-manifest", Tag: tag}
		},
	}
	after := ""
	for i, want := range [][]string{{"a"}, nil, nil, {"d"}, {"f"}} {
		got, err := guard.List(ctx, g, list, origin.Page{After: after, N: 10})
		if err != nil || !slices.Equal(got.Items, want) || got.More != (i < 4) || asked != i+1 {
			t.Fatalf("page %d: %+v, %v; %d were asked for", i, got, err, asked)
		}
		if marked := origin.IsMark(got.Next); marked != (0 < i && i < 4) {
			t.Errorf("page %d leads to %q", i, got.Next)
		}
		after = got.Next
	}
}
