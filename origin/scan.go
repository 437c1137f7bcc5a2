package origin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The limits of a manifest's JSON. They bound what a decoder allocates for a
// document of a few bytes: an empty descriptor is 3 of them, and 200 in memory.
const (
	maxDepth    = 64                 // nesting
	maxElements = 4 * maxDescriptors // of all arrays
	maxKeys     = 100_000            // of all objects
)

// level is an array or object that is open while scan walks.
type level struct {
	object  bool
	checked bool                // readers of manifests look for members here
	key     bool                // the next token is a key
	last    string              // the last key
	seen    map[string]struct{} // keys, folded where they are checked
}

// scan walks the tokens of a document once, without recursion, and refuses one
// that is no object or would cost too much to decode; and, if strict, one that two
// readers may read differently: with duplicate keys, with a member that is spelled
// in another case, or that is not UTF-8. Where only extensions live (annotations,
// unknown members), keys that differ in case are different keys.
func scan(b []byte, strict bool) error {
	if strict && !utf8.Valid(b) {
		return errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var stack []level
	var keys, elements int
	for {
		tok, err := dec.Token()
		if err != nil {
			return errors.New("malformed JSON")
		}
		delim, isDelim := tok.(json.Delim)
		if len(stack) == 0 {
			if delim != '{' {
				return errors.New("not a JSON object")
			}
			stack = append(stack, level{object: true, key: true, checked: true})
			continue
		}
		if delim == '}' || delim == ']' {
			if stack = stack[:len(stack)-1]; len(stack) > 0 {
				continue
			}
			if _, err := dec.Token(); err != io.EOF {
				return errors.New("data after the JSON object")
			}
			return nil
		}
		top := &stack[len(stack)-1]
		if top.key {
			top.key, top.last = false, tok.(string)
			if keys++; keys > maxKeys {
				return fmt.Errorf("more than %d keys", maxKeys)
			}
			if strict {
				err = top.add()
			}
			if err != nil {
				return err
			}
			continue
		}
		if top.object {
			top.key = true
		} else if elements++; elements > maxElements {
			return fmt.Errorf("more than %d elements", maxElements)
		}
		if isDelim {
			if len(stack) == maxDepth {
				return fmt.Errorf("nested deeper than %d", maxDepth)
			}
			checked := top.checked && (!top.object || slices.Contains(containers(), top.last))
			stack = append(stack, level{object: delim == '{', key: delim == '{', checked: checked})
		}
	}
}

// add notes the last key, unless it is there already.
func (l *level) add() error {
	key := l.last
	if l.checked {
		key = fold(key)
		for _, m := range members() {
			if m != l.last && strings.EqualFold(m, l.last) {
				return fmt.Errorf("key %s is not spelled %s", Quote(l.last), Quote(m))
			}
		}
	}
	if _, dup := l.seen[key]; dup {
		return fmt.Errorf("duplicate key %s", Quote(l.last))
	}
	if l.seen == nil {
		l.seen = make(map[string]struct{})
	}
	l.seen[key] = struct{}{}
	return nil
}

// containers are the members in which readers look for further members.
func containers() []string { return []string{"config", "layers", "manifests", "subject", "platform"} }

// members are the members that readers of manifests look for, at any depth.
func members() []string {
	return []string{
		"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests",
		"subject", "annotations", "digest", "size", "urls", "data", "platform",
		"architecture", "os", "os.version", "os.features", "variant",
	}
}

// fold maps keys that encoding/json takes for the same member to one string.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, s)
}
