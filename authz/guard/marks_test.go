package guard_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

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
