package config

import (
	"fmt"
	"strings"
)

// expand replaces ${NAME} and ${NAME:-default} from the environment, and $${ by
// ${. The default also stands in for a variable that is empty, as in a shell. What
// is put in is not looked at again.
func expand(s string, env func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "${")
		if !found {
			b.WriteString(s)
			return b.String(), nil
		}
		if literal, ok := strings.CutSuffix(before, "$"); ok {
			b.WriteString(literal + "${")
			s = after
			continue
		}
		b.WriteString(before)
		inner, rest, closed := strings.Cut(after, "}")
		if !closed {
			return "", fmt.Errorf("${ without }: write $${ where ${ is meant")
		}
		name, fallback, hasFallback := strings.Cut(inner, ":-")
		if !isVariable(name) {
			return "", fmt.Errorf("${%s} is no variable: write ${NAME} or ${NAME:-default}, and $${ where ${ is meant", name)
		}
		if strings.Contains(fallback, "${") {
			return "", fmt.Errorf("${%s:-…} has a variable in its default, which is not understood", name)
		}
		value, set := env(name)
		switch {
		case hasFallback && (!set || value == ""):
			value = fallback
		case !set:
			return "", fmt.Errorf("the environment has no %s: set it, or write ${%s:-default}", name, name)
		}
		b.WriteString(value)
		s = rest
	}
}

// escape is the inverse of expand.
func escape(s string) string { return strings.ReplaceAll(s, "${", "$${") }

func isVariable(s string) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
