package conformance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestTopLevel: the top level is a map of the house, and is learnt once.
func TestTopLevel(t *testing.T) {
	agreed := []string{
		"LICENSE", "Makefile", "README.md", "authz", "cmd", "conformance", "deploy", "go.mod", "go.sum",
		"mirror", "origin", "store", "ui",
	}
	built := []string{"bin", "dist", "weir-data", "weir"} // of make; not in the repository
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, ".") && !slices.Contains(agreed, name) && !slices.Contains(built, name) {
			t.Errorf("%s does not belong on the top level", name)
		}
	}
}

// floors are the lowest versions without a hole that concerns us.
var floors = []struct{ what, version, why string }{
	{"go", "1.26.6", "ways out of os.Root, TLS sessions resumed across a change of CA, chunked smuggling"},
	{"github.com/google/go-containerregistry", "0.22.1", "credentials sent to whatever realm a challenge names"},
	{"github.com/prometheus/client_golang", "1.11.1", "a label for every request method that a client makes up"},
}

// TestVersions stands in for a vulnerability database, which would need a network.
func TestVersions(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range floors {
		have := strings.TrimPrefix(strings.Fields(runtime.Version())[0], "go")
		if f.what != "go" {
			m := regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(f.what) + ` v(\S+)`).FindSubmatch(mod)
			if m == nil {
				continue // not used: nothing to be old
			}
			have = string(m[1])
		}
		ok, err := atLeast(have, f.version)
		if err != nil {
			t.Errorf("%s %s: %v", f.what, have, err)
		} else if !ok {
			t.Errorf("%s is %s, below %s, which ended: %s", f.what, have, f.version, f.why)
		}
	}
}

// atLeast compares dotted numbers; what follows a "-" or "+" is not looked at.
func atLeast(have, want string) (bool, error) {
	numbers := func(v string) (n [3]int, err error) {
		v, _, _ = strings.Cut(v, "-")
		v, _, _ = strings.Cut(v, "+")
		parts := strings.Split(v, ".")
		if len(parts) > len(n) {
			return n, fmt.Errorf("%q is no version", v)
		}
		for i, p := range parts {
			if n[i], err = strconv.Atoi(p); err != nil {
				return n, fmt.Errorf("%q is no version: %w", v, err)
			}
		}
		return n, nil
	}
	h, err := numbers(have)
	if err != nil {
		return false, err
	}
	w, err := numbers(want)
	return slices.Compare(h[:], w[:]) >= 0, err
}

func TestAtLeast(t *testing.T) {
	for _, c := range []struct {
		have, want string
		ok, bad    bool
	}{
		{"1.26.8", "1.26.6", true, false},
		{"1.26.6", "1.26.6", true, false},
		{"1.26.5", "1.26.6", false, false},
		{"1.27", "1.26.6", true, false},
		{"1.9.9", "1.26.6", false, false},
		{"0.22.1-0.20260101000000-abcdefabcdef", "0.22.1", true, false},
		{"devel", "1.26.6", false, true},
	} {
		ok, err := atLeast(c.have, c.want)
		if ok != c.ok || (err != nil) != c.bad {
			t.Errorf("atLeast(%s, %s) = %t, %v", c.have, c.want, ok, err)
		}
	}
}

// TestChangelog: a fragment is a file that a release can take over as it is, in
// the order of the file names: a line with the kind of change and what it is, then,
// after an empty line, what a user has to know about it.
func TestChangelog(t *testing.T) {
	const dir = "../deploy/changelog/unreleased"
	name := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*\.md$`)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("nothing has changed yet")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !name.MatchString(e.Name()) {
			t.Errorf("%s: a fragment is called <topic>.md", e.Name())
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range fragmentProblems(string(text)) {
			t.Errorf("%s: %s", e.Name(), problem)
		}
	}
}

func fragmentProblems(text string) (problems []string) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	say := func(yes bool, what string) {
		if yes {
			problems = append(problems, what)
		}
	}
	say(!utf8.ValidString(text), "is not UTF-8")
	say(!strings.HasSuffix(text, "\n"), "does not end with a newline")
	say(!regexp.MustCompile(`^(Added|Changed|Deprecated|Removed|Fixed|Security): \S`).MatchString(lines[0]), "does not begin with the kind of change and what changed")
	say(len(lines) > 1 && lines[1] != "", "has no empty line after the first")
	say(len(lines) > 40, "is longer than 40 lines: that is documentation")
	say(regexp.MustCompile(`(?i)\b(todo|fixme|tbd)\b`).MatchString(text), "is not finished")
	say(regexp.MustCompile(`(^|\s)#[0-9]+\b`).MatchString(text), "refers to a number that its reader cannot look up")
	return problems
}

func TestFragmentProblems(t *testing.T) {
	for text, want := range map[string]int{
		"Added: weir serves.\n":                         0,
		"Added: weir serves.\n\nOn port 5000.\n":        0,
		"Added: weir serves.\nOn port 5000.\n":          1,
		"Added: weir serves.":                           1,
		"weir serves.\n":                                1,
		"Added: \n":                                     1,
		"":                                              2,
		"Fixed: weir serves, see #12.\n":                1,
		"Added: weir serves. TODO: more.\n":             1,
		"Added: weir \xff serves.\n":                    1,
		"Added: a\n" + strings.Repeat("\nb", 40) + "\n": 1,
	} {
		if got := fragmentProblems(text); len(got) != want {
			t.Errorf("%.20q: %v, want %d", text, got, want)
		}
	}
}
