package lifetime

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/rule"
)

func TestRule(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	image := map[string]any{
		"repository": "team/app", "tag": "v1.2.3", "digest": "sha256:00", "media_type": "m",
		"pushed_at": now.Add(-48 * time.Hour), "size": int64(12),
		"annotations": map[string]string{"keep": "yes"}, "referrers": []string{"sig"},
		pushedRank: int64(2),
	}
	for source, want := range map[string]bool{
		"image.tag == 'v1.2.3'":                       true,
		"image.repository.startsWith('team/')":        true,
		"image.pushed_at > now() - days(3)":           true,
		"image.pushed_at > now() - days(1)":           false,
		"image.pushed_at > now() - hours(49)":         true,
		"image.pushed_at > now() - duration('6s')":    false,
		"image.last_pulled_at > now() - days(10000)":  false, // never
		"has(image.last_pulled_at)":                   false,
		"top_pushed(3)":                               true,
		"top_pushed(2)":                               false,
		"top_pulled(1000000)":                         false, // never
		"top_pushed(size(image.referrers) + 2)":       true,
		"semver(image.tag)":                           true,
		"image.size > 10 && image.media_type == 'm'":  true,
		"image.annotations['keep'] == 'yes'":          true,
		"'other' in image.annotations":                false,
		"image.referrers.exists(r, r == 'sig')":       true,
		"image.digest.matches('^sha256:[0-9a-f]+$')":  true,
		"dyn(image.tag)":                              false, // an error
		"image.annotations['other'] == 'x'":           false, // an error
		"image.pushed_at > now() - days(99999999999)": false, // an error
	} {
		r, err := ParseRule(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		is, err := r.keeps(t.Context(), image, now)
		fails := strings.HasPrefix(source, "dyn") || strings.Contains(source, "['other']") || strings.Contains(source, "999999")
		if is != want || (err != nil) != fails {
			t.Errorf("%s: %v, %v", source, is, err)
		}
	}
}

func TestRuleErrors(t *testing.T) {
	for source, want := range map[string]string{
		"":                     "the rule is empty",
		"image.tga == 'x'":     "column 6: undefined field 'tga': image has repository, tag, digest, pushed_at, last_pulled_at, size, media_type, annotations, referrers",
		"image.tag":            "the rule is a string, neither true nor false",
		"image.size == 'x'":    "column 12: found no matching overload for '_==_'",
		"top(5)":               "column 4: undeclared reference to 'top': a rule knows image, now()",
		"true &&\n request":    "line 2, column 2: undeclared reference to 'request'",
		"image.tag == 'x":      "column 14: Syntax error",
		"days('x') == days(1)": "column 5: found no matching overload for 'days'",
		"top_pushed('x')":      "found no matching overload",
		strings.Repeat(" ", rule.Longest) + "true": "the rule is longer",
	} {
		_, err := ParseRule(source)
		if err == nil || !strings.HasPrefix(err.Error(), want) && !(want == "found no matching overload" && strings.Contains(err.Error(), want)) {
			t.Errorf("%.40q: %v, not %q", source, err, want)
		}
	}
}

// A rule that would take too long fails.
func TestRuleCost(t *testing.T) {
	r, err := ParseRule("[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, [1,2,3,4,5,6,7,8,9].all(f, a+b+c+d+e+f > 0))))))")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.keeps(t.Context(), map[string]any{}, time.Now()); err == nil {
		t.Error("a rule ran on that costs more than it may")
	}
}

func TestIsVersion(t *testing.T) {
	for tag, want := range map[string]bool{
		"1.2.3": true, "v1.2.3": true, "0.0.0": true, "1.2.3-rc.1": true, "v1.0.0-alpha-2": true, "1.2.3-0a": true,
		"1.2": false, "v1": false, "01.2.3": false, "1.2.3-01": false, "latest": false, "V1.2.3": false, "1.2.3.4": false, "1.2.3-": false, "1.2.3\n": false,
	} {
		if isVersion(tag) != want {
			t.Errorf("%q: %v", tag, !want)
		}
	}
}

func FuzzParseRule(f *testing.F) {
	f.Add("image.tag == 'latest' && top_pushed(10)")
	f.Add("image.pushed_at > now() - days(30)")
	f.Fuzz(func(t *testing.T, source string) {
		r, err := ParseRule(source)
		if err != nil {
			return
		}
		_, _ = r.keeps(t.Context(), map[string]any{"tag": "x"}, time.Unix(0, 0))
	})
}
