package token_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/weir-registry/weir/authz/token"
)

func TestParseScope(t *testing.T) {
	many := make([]string, 100)
	for i := range many {
		many[i] = "repository:" + strings.Repeat("a", i+1) + ":pull"
	}
	for _, test := range []struct {
		in   []string
		want string
	}{
		{nil, ""},
		{[]string{""}, ""},
		{[]string{"repository:team/app:pull"}, "repository:team/app:pull"},
		{[]string{"repository:team/app:pull,push,delete"}, "repository:team/app:pull,push,delete"},
		{[]string{"repository:a:pull repository:b:push"}, "repository:a:pull repository:b:push"},
		{[]string{"repository:a:pull", "repository:b:push"}, "repository:a:pull repository:b:push"},
		{[]string{"repository:a:pull", " repository:b:push  repository:a:push,pull"}, "repository:a:pull,push repository:b:push"},
		{[]string{"registry:catalog:*"}, "registry:catalog:*"},
		{[]string{"repository:corp:5000/app:pull"}, "repository:corp:5000/app:pull"},
		{[]string{"repository(plugin):a:pull"}, "repository(plugin):a:pull"},
		{[]string{"repository:a:pull,,pull,"}, "repository:a:pull"},
		{[]string{"x", ":", "::", ":a:pull", "repository:a", "repository::pull", "repository:a:", "repository:a:,"}, ""},
		{[]string{"repository:a:pull x repository:b:pull"}, "repository:a:pull repository:b:pull"},
		{[]string{"repository:a:fly,pull,Push"}, "repository:a:pull"},
		{[]string{"repository:a:fly"}, ""},
		{many, strings.Join(many[:32], " ")},
		{[]string{strings.Join(many, " ")}, strings.Join(many[:32], " ")},
	} {
		s := token.ParseScope(test.in...)
		if s == nil {
			t.Errorf("%q is no bound", test.in)
		}
		if s.String() != test.want {
			t.Errorf("%q is %q, want %q", test.in, s, test.want)
		}
	}
}

// FuzzScope: what is parsed is written so that it parses as the same, and is a bound.
func FuzzScope(f *testing.F) {
	for _, s := range []string{"", "repository:team/app:pull,push", "registry:catalog:*", "a:b:c:pull,list f:g:*", "::", "repository:a:pull repository:a:push", "\t\n a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := token.ParseScope(text)
		if s == nil || len(s) > 32 {
			t.Fatalf("%q is %q", text, s)
		}
		for _, g := range s {
			if g.Type == "" || g.Name == "" || len(g.Actions) == 0 || len(g.Actions) > 6 {
				t.Errorf("%q has %+v", text, g)
			}
		}
		if again := token.ParseScope(s.String()); !reflect.DeepEqual(s, again) {
			t.Errorf("%q is %q, and then %q", text, s, again)
		}
	})
}
