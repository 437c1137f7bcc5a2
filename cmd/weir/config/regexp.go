package config

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
)

// Regexp is a pattern of whole strings, in Go's (RE2) notation: "v1" matches v1
// and not v12. The zero Regexp matches nothing.
type Regexp struct {
	source string
	whole  *regexp.Regexp
}

// String gives the pattern as it was written.
func (r Regexp) String() string { return r.source }

// MatchString reports whether all of s matches.
func (r Regexp) MatchString(s string) bool { return r.whole != nil && r.whole.MatchString(s) }

// Regexp is a compiled pattern that matches what r matches: it is anchored at
// both ends.
func (r Regexp) Regexp() *regexp.Regexp { return r.whole }

// MarshalText implements [encoding.TextMarshaler].
func (r Regexp) MarshalText() ([]byte, error) { return []byte(r.source), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *Regexp) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "" {
		return errors.New("an empty pattern matches nothing")
	}
	// Alone first: "a)|(b" is no pattern, though it would be one between the anchors.
	if _, err := regexp.Compile(s); err != nil {
		return regexpError(err)
	}
	whole, err := regexp.Compile(`\A(?:` + s + `)\z`)
	if err != nil {
		return regexpError(err)
	}
	*r = Regexp{s, whole}
	return nil
}

func regexpError(err error) error {
	if bad, ok := errors.AsType[*syntax.Error](err); ok {
		return fmt.Errorf("no pattern: %s: %q", bad.Code, bad.Expr)
	}
	return fmt.Errorf("no pattern: %w", err)
}
