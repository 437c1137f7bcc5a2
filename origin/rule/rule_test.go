package rule_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"

	"github.com/weir-registry/weir/origin/rule"
)

func language(t *testing.T) rule.Language {
	t.Helper()
	env, err := cel.NewEnv(cel.Variable("image", cel.MapType(cel.StringType, cel.DynType)))
	if err != nil {
		t.Fatal(err)
	}
	return rule.Language{Env: env, Empty: "keeps nothing", Knows: "image", Has: func() string { return "image has a tag" }}
}

func TestCheck(t *testing.T) {
	l := language(t)
	for _, source := range []string{"true", "image.tag == 'v1'", "image.kept", " 1 < 2\n"} {
		if _, err := l.Check(source); err != nil {
			t.Errorf("%q: %v", source, err)
		}
	}
	for source, want := range map[string]string{
		"":    "the rule is empty: it keeps nothing",
		" \n": "the rule is empty: it keeps nothing",
		strings.Repeat(" ", rule.Longest) + "true": "the rule is longer than 16384 bytes",
		"1 + 1":           "the rule is a int, neither true nor false",
		"true &&\n  user": "line 2, column 3: undeclared reference to 'user': a rule knows image",
		"image.":          "column 7: ",
	} {
		_, err := l.Check(source)
		e, ok := errors.AsType[*rule.Error](err)
		if !ok || !strings.HasPrefix(e.Error(), want) || strings.Contains(e.Error(), "\n") {
			t.Errorf("%.20q: %v, want %q", source, err, want)
		}
	}
}

func TestTruth(t *testing.T) {
	if is, err := rule.Truth(types.True); !is || err != nil {
		t.Errorf("%v, %v", is, err)
	}
	if is, err := rule.Truth(types.String("true")); is || err == nil || err.Error() != "it is a string, neither true nor false" {
		t.Errorf("%v, %v", is, err)
	}
}
