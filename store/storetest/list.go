package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/weir-registry/weir/store"
)

// tree is a set of keys whose byte order is not the order of a walk that takes
// directory after directory: "-" and "." come before "/", and "0" after it.
var tree = []string{
	"a-b/c", "a.b", "a/b", "a/c-1/x", "a/c/x", "a/c/y/z", "a/c0", "a0/b", "b", "c/sha256:1/tag", "c/sha256:2/tag", "é",
}

var listCases = func() []recordCase {
	cases := []recordCase{
		{"list: nothing", func(t *testing.T, r store.Records) {
			for _, prefix := range []string{"", "a", "a/b"} {
				if got := list(t, r, prefix, ""); len(got) != 0 {
					t.Errorf("List(%q) = %q, want none", prefix, got)
				}
			}
		}},
		{"list: what an entry says", func(t *testing.T, r store.Records) {
			version := set(t, r, "a/b", "value", store.Always())
			n := 0
			for e, err := range r.List(t.Context(), "", "") {
				must(t, err)
				n++
				if e.Key != "a/b" || e.Modified.IsZero() || e.Version != "" && e.Version != version || e.Size != 0 && e.Size < 5 {
					t.Errorf("entry %+v", e)
				}
			}
			if n != 1 {
				t.Errorf("%d entries, want 1", n)
			}
		}},
		{"list: broken off", func(t *testing.T, r store.Records) {
			plant(t, r)
			var got []string
			for e, err := range r.List(t.Context(), "", "") {
				must(t, err)
				if got = append(got, e.Key); len(got) == 5 {
					break
				}
			}
			wantKeys(t, got, tree[:5])
		}},
		{"list: again", func(t *testing.T, r store.Records) {
			plant(t, r)
			seq := r.List(t.Context(), "", "")
			for range 2 {
				var got []string
				for e, err := range seq {
					must(t, err)
					got = append(got, e.Key)
				}
				wantKeys(t, got, tree)
			}
		}},
		{"list: page by page", func(t *testing.T, r store.Records) {
			plant(t, r)
			for size := 1; size <= len(tree); size++ {
				var got []string
				for after := ""; ; after = got[len(got)-1] {
					n := 0
					for e, err := range r.List(t.Context(), "", after) {
						must(t, err)
						got = append(got, e.Key)
						if n++; n == size {
							break
						}
					}
					if n < size {
						break
					}
				}
				wantKeys(t, got, tree)
			}
		}},
		{"list: after each key, and close to it", func(t *testing.T, r store.Records) {
			plant(t, r)
			afters := []string{"/", "a", "a/", "a/c", "a/c/", "a/c/x/", "a/c/y", "a/c/y/zz", "a//", "\xff", "a/c\x00"}
			for _, key := range tree {
				afters = append(afters, key, key+"\x00", key+"/", key[:len(key)-1])
			}
			for _, after := range afters {
				for _, prefix := range []string{"", "a", "a/c", "c"} {
					var want []string
					for _, key := range tree {
						if key > after && under(key, prefix) {
							want = append(want, key)
						}
					}
					if got := list(t, r, prefix, after); !slices.Equal(got, want) {
						t.Errorf("List(%q, %q) = %q, want %q", prefix, after, got, want)
					}
				}
			}
		}},
		{"list: after a delete", func(t *testing.T, r store.Records) {
			plant(t, r)
			for _, key := range []string{"a/c/x", "a/c/y/z", "b"} {
				must(t, r.Delete(t.Context(), key, store.Always()))
			}
			wantKeys(t, list(t, r, "a", ""), []string{"a/b", "a/c-1/x", "a/c0"})
			wantKeys(t, list(t, r, "a/c", ""), nil)
		}},
		{"list: while others write", listWhileWriting},
		{"list: deleting what it gives", func(t *testing.T, r store.Records) {
			plant(t, r)
			var got []string
			for e, err := range r.List(t.Context(), "", "") {
				must(t, err)
				must(t, r.Delete(t.Context(), e.Key, store.Always()))
				got = append(got, e.Key)
			}
			wantKeys(t, got, tree)
			wantKeys(t, list(t, r, "", ""), nil)
		}},
	}
	for prefix, want := range map[string][]string{
		"":       tree,
		"a":      {"a/b", "a/c-1/x", "a/c/x", "a/c/y/z", "a/c0"},
		"a/c":    {"a/c/x", "a/c/y/z"},
		"a-":     nil,
		"b":      nil, // the record itself is not below itself
		"c":      {"c/sha256:1/tag", "c/sha256:2/tag"},
		"a/c/y":  {"a/c/y/z"},
		"a/b/c":  nil, // below a record there is nothing
		"absent": nil,
	} {
		cases = append(cases, recordCase{fmt.Sprintf("list: below %q", prefix), func(t *testing.T, r store.Records) {
			plant(t, r)
			wantKeys(t, list(t, r, prefix, ""), want)
		}})
	}
	return cases
}()

// listWhileWriting wants that records which stay are listed, once and in order,
// and that what comes and goes meanwhile is no error.
func listWhileWriting(t *testing.T, r store.Records) {
	plant(t, r)
	stop := make(chan struct{})
	done := make(chan error)
	go func() {
		for i := 0; ; i = (i + 1) % 7 {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			key := fmt.Sprintf("a/bb%d/new/key", i)
			_, err := r.Put(t.Context(), key, []byte("value"), store.Always())
			_, err2 := r.Put(t.Context(), tree[i], []byte("changed"), store.Always())
			if err := errors.Join(err, err2, r.Delete(t.Context(), key, store.Always())); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 30 {
		got := list(t, r, "", "")
		kept := slices.DeleteFunc(slices.Clone(got), func(key string) bool { return !slices.Contains(tree, key) })
		wantKeys(t, kept, tree)
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("out of order, or twice: %q", got)
		}
	}
	close(stop)
	must(t, <-done)
}

// plant writes the tree, in no order.
func plant(t *testing.T, r store.Records) {
	t.Helper()
	for i := range tree {
		set(t, r, tree[i*5%len(tree)], "value", store.Absent())
	}
}

// list gives the keys that a listing gives.
func list(t *testing.T, r store.Records, prefix, after string) []string {
	t.Helper()
	var keys []string
	for e, err := range r.List(t.Context(), prefix, after) {
		must(t, err)
		keys = append(keys, e.Key)
	}
	return keys
}

func under(key, prefix string) bool {
	return prefix == "" || len(key) > len(prefix) && key[:len(prefix)] == prefix && key[len(prefix)] == '/'
}

func wantKeys(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("keys %q, want %q", got, want)
	}
}
