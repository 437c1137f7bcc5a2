package origin

import (
	"fmt"
	"path"
	"strings"
)

// Glob is a pattern of repository names. Its components are those of [path.Match],
// which do not reach over a slash; the component ** stands for any number of them,
// none included, but for one or more at the end of a longer pattern: team/** is what
// is below team, and not team itself. The zero Glob matches nothing.
type Glob struct {
	source string
	parts  []string
}

// anyDepth is the component that stands for any number of components.
const anyDepth = "**"

// ParseGlob parses a pattern. Its errors are for whoever wrote it: an operator, and no
// client.
func ParseGlob(s string) (Glob, error) {
	const most = 2 * maxName // no name needs more, and matching costs what it has
	if s == "" || len(s) > most {
		return Glob{}, fmt.Errorf("pattern %s has no character, or too many", Quote(s))
	}
	if i := strings.IndexFunc(s, func(c rune) bool { return !inPattern(c) }); i >= 0 {
		return Glob{}, fmt.Errorf("pattern %s has a character that no name has", Quote(s))
	}
	var parts []string
	for part := range strings.SplitSeq(s, "/") {
		switch _, err := path.Match(part, ""); {
		case part == "":
			return Glob{}, fmt.Errorf("pattern %s has an empty component", Quote(s))
		case err != nil:
			return Glob{}, fmt.Errorf("pattern %s: %s is no pattern", Quote(s), Quote(part))
		case part != anyDepth && strings.Contains(part, anyDepth):
			return Glob{}, fmt.Errorf("pattern %s: ** is a component of its own", Quote(s))
		case part == anyDepth && len(parts) > 0 && parts[len(parts)-1] == anyDepth:
			return Glob{}, fmt.Errorf("pattern %s has ** twice in a row", Quote(s))
		}
		parts = append(parts, part)
	}
	return Glob{s, parts}, nil
}

// inPattern reports whether c may stand in a pattern.
func inPattern(c rune) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.ContainsRune("._-/*?[]^", c)
}

// String gives the pattern as it was written.
func (g Glob) String() string { return g.source }

// MarshalText implements [encoding.TextMarshaler].
func (g Glob) MarshalText() ([]byte, error) { return []byte(g.source), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (g *Glob) UnmarshalText(text []byte) error {
	parsed, err := ParseGlob(string(text))
	if err == nil {
		*g = parsed
	}
	return err
}

// Match reports whether all of repo matches. It costs the product of the numbers of
// components.
func (g Glob) Match(repo Repo) bool {
	if len(g.parts) == 0 || repo.IsZero() {
		return false
	}
	names := strings.Split(repo.String(), "/")
	// matched[j]: the parts so far match the first j names.
	matched := make([]bool, len(names)+1)
	matched[0] = true
	for i, part := range g.parts {
		if part == anyDepth {
			least := 0
			if i > 0 && i == len(g.parts)-1 {
				least = 1
			}
			first := 0
			for first <= len(names) && !matched[first] {
				first++
			}
			for j := range matched {
				matched[j] = j >= first+least
			}
			continue
		}
		for j := len(names); j > 0; j-- {
			ok := matched[j-1]
			if ok {
				ok, _ = path.Match(part, names[j-1]) // ParseGlob has seen that it is a pattern
			}
			matched[j] = ok
		}
		matched[0] = false
	}
	return matched[len(names)]
}
