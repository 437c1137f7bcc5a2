package config

import (
	"encoding"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/weir-registry/weir/origin"
)

// decoder fills a Config from nodes. It goes on after an error, so as to find
// them all.
type decoder struct {
	env  func(string) (string, bool)
	errs *Errors
	at   map[string]Position // key -> where it was set, for what is validated later
}

// value fills v, which is called path, from n.
func (d *decoder) value(n *node, v reflect.Value, path string) {
	d.at[path] = n.at
	switch {
	case v.Type() == reflect.TypeFor[Addresses]() && n.kind != sequence:
		// One address is a list of one.
		list := make(Addresses, 1)
		if d.scalar(n, reflect.ValueOf(&list[0]).Elem(), path) {
			v.Set(reflect.ValueOf(list))
		}
	case v.Kind() == reflect.Struct && !isText(v):
		d.structure(n, v, path)
	case v.Kind() == reflect.Map:
		d.table(n, v, path)
	case v.Kind() == reflect.Slice:
		d.list(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func isText(v reflect.Value) bool {
	return v.Type() == reflect.TypeFor[Secret]() || v.Addr().Type().Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// want reports whether n is of the kind that path must have; a key without a
// value leaves the default, and so does a wrong one.
func (d *decoder) want(n *node, k kind, path string) bool {
	if n.kind != k && n.kind != null {
		d.errs.add(n.at, "%s must be %s, not %s", path, k, n.kind)
	}
	return n.kind == k
}

func (d *decoder) structure(n *node, v reflect.Value, path string) {
	if !d.want(n, mapping, path) {
		return
	}
	known := fields(v.Type())
	for _, p := range n.pairs {
		i := slices.IndexFunc(known, func(f field) bool { return f.key == p.key })
		if i < 0 {
			d.unknown(p, path, known)
			continue
		}
		f := known[i]
		if f.file {
			d.secretFile(p, v.Field(f.index), join(path, p.key))
			continue
		}
		d.value(p.value, v.Field(f.index), join(path, p.key))
	}
	for _, f := range known {
		if direct := strings.TrimSuffix(f.key, fileSuffix); f.file && n.index(f.key) >= 0 && n.index(direct) >= 0 {
			d.errs.add(n.pairs[n.index(f.key)].at, "%s and %s are both set: keep one", join(path, direct), f.key)
		}
	}
}

func (d *decoder) unknown(p pair, path string, known []field) {
	where := ""
	if path != "" {
		where = " in " + path
	}
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.key
	}
	hint := "known are " + strings.Join(names, ", ")
	if near, ok := nearest(p.key, names); ok {
		hint = "did you mean " + strconv.Quote(near) + "?"
	}
	d.errs.add(p.at, "unknown key %s%s: %s", origin.Quote(p.key), where, hint)
}

func (d *decoder) table(n *node, v reflect.Value, path string) {
	if !d.want(n, mapping, path) {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, p := range n.pairs {
		item := reflect.New(v.Type().Elem()).Elem()
		d.at[join(path, p.key)] = p.at
		if d.scalar(p.value, item, join(path, p.key)) {
			v.SetMapIndex(reflect.ValueOf(p.key), item)
		}
	}
}

func (d *decoder) list(n *node, v reflect.Value, path string) {
	if !d.want(n, sequence, path) {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
	for i, item := range n.items {
		at := path + "[" + strconv.Itoa(i) + "]"
		if u, ok := reflect.TypeAssert[interface{ setDefaults() }](v.Index(i).Addr()); ok {
			u.setDefaults()
		}
		if item.kind == null {
			d.errs.add(item.at, "%s has no value", at)
			continue
		}
		d.value(item, v.Index(i), at)
	}
}

// text is the expanded text of a scalar.
func (d *decoder) text(n *node, path string) (string, bool) {
	switch n.kind {
	case scalar:
	case null:
		d.errs.add(n.at, "%s has no value", path)
		return "", false
	default:
		d.errs.add(n.at, "%s must be a single value, not %s", path, n.kind)
		return "", false
	}
	s, err := expand(n.text, d.env)
	if err != nil {
		d.errs.add(n.at, "%s: %v", path, err)
		return "", false
	}
	return s, true
}

// scalar fills v and reports whether that went well.
func (d *decoder) scalar(n *node, v reflect.Value, path string) bool {
	s, ok := d.text(n, path)
	if !ok {
		return false
	}
	if v.Type() == reflect.TypeFor[Secret]() {
		v.Set(reflect.ValueOf(NewSecret(s)))
		return true
	}
	if !isPrintable(s) {
		d.errs.add(n.at, "%s holds a line end or another control character", path)
		return false
	}
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		if err := u.UnmarshalText([]byte(s)); err != nil {
			d.errs.add(n.at, "%s: %v", path, err)
			return false
		}
		return true
	}
	switch v.Kind() {
	case reflect.Bool:
		if s != "true" && s != "false" {
			d.errs.add(n.at, "%s must be true or false, not %s", path, origin.Quote(s))
			return false
		}
		v.SetBool(s == "true")
	case reflect.Int:
		i, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			d.errs.add(n.at, "%s must be a whole number, not %s", path, origin.Quote(s))
			return false
		}
		v.SetInt(i)
	case reflect.String:
		v.SetString(s)
	default:
		panic("config: no way to decode a " + v.Type().String()) // a field of Config has a type unknown here
	}
	return true
}

func (d *decoder) secretFile(p pair, v reflect.Value, path string) {
	d.at[path] = p.value.at
	s, ok := d.text(p.value, path)
	switch {
	case !ok:
	case s == "", !isPrintable(s):
		d.errs.add(p.value.at, "%s is empty or holds a control character: name a file", path)
	default:
		v.Set(reflect.ValueOf(SecretFile(s)))
	}
}

// isPrintable reports whether s fits on a line of a file, of a log, of a header.
func isPrintable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// fileSuffix makes the key of a secret's file from that of the secret.
const fileSuffix = "_file"

// field is one key of a struct.
type field struct {
	key   string
	index int
	file  bool // the key names the file of the secret at index
}

// fields are the keys of a struct in the order of its declaration.
func fields(t reflect.Type) []field {
	var known []field
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("yaml")
		known = append(known, field{key: key, index: i})
		if f.Type == reflect.TypeFor[Secret]() {
			known = append(known, field{key: key + fileSuffix, index: i, file: true})
		}
	}
	return known
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
