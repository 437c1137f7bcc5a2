package config

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
)

// Over gives c as it can hold in a weir that runs by another configuration: what needs a
// restart is as it is there. keys are those of it that c has otherwise, in the order of
// the documentation. Neither c nor running is changed.
func (c *Config) Over(running *Config) (effective *Config, keys []string) {
	next := *c
	settings(reflect.ValueOf(&next).Elem(), reflect.ValueOf(running).Elem(), "", func(key string, v, is reflect.Value) {
		if restarts(key) && !reflect.DeepEqual(v.Interface(), is.Interface()) {
			keys = append(keys, key)
			v.Set(is)
		}
	})
	if next.Server.TLS.IsZero() != running.Server.TLS.IsZero() {
		keys = append(keys, "server.tls")
		next.Server.TLS = running.Server.TLS
	}
	return &next, keys
}

// restarts reports whether a change of the key needs a restart: where weir listens, and
// where it keeps what. That TLS is on, or off, is the only other thing.
func restarts(key string) bool {
	switch {
	case key == "server.listen", key == "admin.listen", key == "origin.url", key == "origin.prefix":
		return true
	case strings.HasSuffix(key, ".s3.redirect"), strings.HasSuffix(key, ".s3.redirect_ttl"):
		return false
	default:
		return strings.HasPrefix(key, "store.")
	}
}

// settings calls each with all keys that hold a value, a list or a table, and with what two
// configurations have there.
func settings(a, b reflect.Value, path string, each func(key string, a, b reflect.Value)) {
	if !section(a.Type()) {
		each(path, a, b)
		return
	}
	for _, f := range fields(a.Type()) {
		if !f.file {
			settings(a.Field(f.index), b.Field(f.index), join(path, f.key), each)
		}
	}
}

// section reports whether a type has keys of its own.
func section(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[Secret]() && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// Files are the files that c names: certificates and their keys, authorities, users, and
// secrets; each once, in no order.
func (c *Config) Files() []string {
	var names []string
	var look func(v reflect.Value, key string)
	look = func(v reflect.Value, key string) {
		name := ""
		switch {
		case v.Type() == reflect.TypeFor[Secret]():
			name = v.Interface().(Secret).File()
		case section(v.Type()):
			for _, f := range fields(v.Type()) {
				if !f.file {
					look(v.Field(f.index), f.key)
				}
			}
		case v.Kind() == reflect.Slice:
			for i := range v.Len() {
				look(v.Index(i), "")
			}
		case v.Kind() == reflect.String:
			switch key {
			case "ca", "certificate", "key", "client_ca", "htpasswd":
				name = v.String()
			}
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	look(reflect.ValueOf(c).Elem(), "")
	return names
}
