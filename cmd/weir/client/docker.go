package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Docker is the daemon.json that leads pulls of docker.io through the mirror: the
// only registry that registry-mirrors are for.
func Docker(m Mirror) File {
	entries := []entry{{"registry-mirrors", m.URL.String()}}
	if m.plain() && !m.loopback() {
		entries = append(entries, entry{"insecure-registries", m.host()})
	}
	each := func(change func(text []byte, e entry) ([]byte, error)) func([]byte) ([]byte, error) {
		return func(text []byte) ([]byte, error) {
			for _, e := range entries {
				var err error
				if text, err = change(text, e); err != nil {
					return nil, err
				}
			}
			return text, nil
		}
	}
	return File{Name: "daemon.json", put: each(putEntry), take: each(takeEntry)}
}

// entry is a string in a list under a key of the file.
type entry struct{ key, value string }

// is reports whether s is the entry: a slash at the end makes no other mirror.
func (e entry) is(s string) bool { return strings.TrimRight(s, "/") == e.value }

func putEntry(text []byte, e entry) ([]byte, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return fmt.Appendf(nil, "{\n  %q: %s\n}\n", e.key, listOf([]string{e.value})), nil
	}
	o, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	i := o.index(e.key)
	if i < 0 {
		return o.append(e.key, listOf([]string{e.value})), nil
	}
	list, err := o.list(i)
	if err != nil || slices.ContainsFunc(list, e.is) {
		return text, err
	}
	// In front, for mirrors are asked in the order of the list.
	return o.replace(i, listOf(append([]string{e.value}, list...))), nil
}

func takeEntry(text []byte, e entry) ([]byte, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return text, nil
	}
	o, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	i := o.index(e.key)
	if i < 0 {
		return text, nil
	}
	list, err := o.list(i)
	if err != nil || !slices.ContainsFunc(list, e.is) {
		return text, err
	}
	if list = slices.DeleteFunc(list, e.is); len(list) > 0 {
		return o.replace(i, listOf(list)), nil
	}
	return o.remove(i), nil
}

// listOf is a list of strings on one line.
func listOf(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		text, _ := json.Marshal(s) // a string always has a form
		quoted[i] = string(text)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// object is a JSON object as it stands in a file: where its members are, so that
// one can be changed and every other byte kept.
type object struct {
	text    []byte
	open    int // offset after its opening brace
	members []member
}

type member struct {
	key                    string
	start, value, valueEnd int // offsets of the key, of the value, after the value
}

func parseObject(text []byte) (object, error) {
	o := object{text: text}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return o, errors.New("it is no JSON object")
	}
	o.open = int(d.InputOffset())
	for d.More() {
		after := int(d.InputOffset())
		key, err := d.Token()
		if err != nil {
			return o, fmt.Errorf("it is no JSON: %w", err)
		}
		var value json.RawMessage
		start := after + bytes.IndexByte(text[after:], '"')
		if err := d.Decode(&value); err != nil {
			return o, fmt.Errorf("it is no JSON: %w", err)
		}
		name, _ := key.(string)
		if o.index(name) >= 0 {
			return o, fmt.Errorf("it has %q twice", name)
		}
		valueEnd := int(d.InputOffset())
		o.members = append(o.members, member{name, start, valueEnd - len(value), valueEnd})
	}
	if _, err := d.Token(); err != nil {
		return o, fmt.Errorf("it is no JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return o, errors.New("it goes on after its JSON object")
	}
	return o, nil
}

func (o object) index(key string) int {
	return slices.IndexFunc(o.members, func(m member) bool { return m.key == key })
}

func (o object) list(i int) ([]string, error) {
	m := o.members[i]
	var list []string
	if err := json.Unmarshal(o.text[m.value:m.valueEnd], &list); err != nil {
		return nil, fmt.Errorf("its %q is no list of strings", m.key)
	}
	return list, nil
}

// splice is the text with what is between two offsets replaced.
func (o object) splice(from, to int, with string) []byte {
	return slices.Concat(o.text[:from], []byte(with), o.text[to:])
}

func (o object) replace(i int, value string) []byte {
	return o.splice(o.members[i].value, o.members[i].valueEnd, value)
}

// append adds a member behind the last one, set off as that is.
func (o object) append(key, value string) []byte {
	if len(o.members) == 0 {
		return o.splice(o.open, o.open+bytes.IndexByte(o.text[o.open:], '}'), fmt.Sprintf("\n  %q: %s\n", key, value))
	}
	last := o.members[len(o.members)-1]
	gap := string(o.text[o.open:last.start])
	if n := len(o.members); n > 1 {
		_, gap, _ = strings.Cut(string(o.text[o.members[n-2].valueEnd:last.start]), ",")
	}
	return o.splice(last.valueEnd, last.valueEnd, fmt.Sprintf(",%s%q: %s", gap, key, value))
}

// remove takes a member out, with the comma that is then too many. The last one
// leaves nothing: a file without settings is as good as none.
func (o object) remove(i int) []byte {
	switch m := o.members[i]; {
	case len(o.members) == 1:
		return nil
	case i == 0:
		return o.splice(m.start, o.members[1].start, "")
	default:
		return o.splice(o.members[i-1].valueEnd, m.valueEnd, "")
	}
}
