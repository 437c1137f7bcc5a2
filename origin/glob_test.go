package origin_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/weir-registry/weir/origin"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct{ pattern, yes, no string }{
		{"**", "a a/b a/b/c", ""},
		{"*", "a", "a/b"},
		{"library/*", "library/nginx", "library library/a/b other/nginx"},
		{"library/**", "library/nginx library/a/b", "library libraryx/a"},
		{"**/app", "app a/app a/b/app", "app/a a/apps"},
		{"team/**/app", "team/app team/a/app team/a/b/app", "team app team/a/app/b"},
		{"team/**/app/**", "team/app/x team/a/app/x/y", "team/app team/a/app"},
		{"**/a/**/b", "a/b x/a/y/b a/a/b/b", "a b/a"},
		{"team-[ab]/*-?", "team-a/x-1 team-b/-1", "team-c/x-1 team-a/x-12"},
		{"nginx", "nginx", "nginx/a a/nginx"},
	} {
		g, err := origin.ParseGlob(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		for want, names := range map[bool]string{true: c.yes, false: c.no} {
			for name := range strings.FieldsSeq(names) {
				repo, err := origin.ParseRepo(name)
				if err != nil {
					continue // "-1" is no component; such names never come
				}
				if got := g.Match(repo); got != want {
					t.Errorf("%s matches %s: %v", c.pattern, name, got)
				}
			}
		}
		if g.Match(origin.Repo{}) {
			t.Errorf("%s matches nothing at all", c.pattern)
		}
	}
	for _, bad := range []string{"", "/", "a/", "/a", "a//b", "a**", "**a", "a/[", "a/[a", `a\b`, "Library/*", "a/\x00", "a/\x80", "**/**", "a/**/**", strings.Repeat("a", 511)} {
		if g, err := origin.ParseGlob(bad); err == nil {
			t.Errorf("%q is the pattern %q", bad, g)
		}
	}
	if repo, _ := origin.ParseRepo("a"); (origin.Glob{}).Match(repo) {
		t.Error("the zero Glob matches")
	}
}

// A Glob matches what the regular expression matches that it is written as.
func FuzzGlob(f *testing.F) {
	for _, s := range [][2]string{{"**", "a/b"}, {"a/**", "a"}, {"**/b/*", "a/b/c"}, {"a*/?", "ab/c"}, {"[a-c]/**/x", "a/x"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		g, err := origin.ParseGlob(pattern)
		if err != nil {
			return
		}
		repo, err := origin.ParseRepo(name)
		if err != nil {
			return
		}
		got := g.Match(repo)
		if strings.ContainsAny(pattern, `[]\`) {
			return // classes are path.Match's own
		}
		q := regexp.QuoteMeta("/" + pattern)
		q = strings.ReplaceAll(q, `/\*\*`, "\x00")
		q = strings.ReplaceAll(q, `\*`, "[^/]*")
		q = strings.ReplaceAll(q, `\?`, "[^/]")
		if rest, ok := strings.CutSuffix(q, "\x00"); ok && rest != "" {
			q = rest + "(/[^/]+)+"
		}
		q = strings.ReplaceAll(q, "\x00", "(/[^/]+)*")
		if want := regexp.MustCompile(`(?s)\A` + q + `\z`).MatchString("/" + name); got != want {
			t.Errorf("%q matches %q: %v, and %s does: %v", pattern, name, got, q, want)
		}
	})
}
