package config

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml"
)

// Effective is the configuration that holds in the end, as a file: every key with
// its value, defaults and well-known upstreams included. A secret is "<redacted>",
// or the name of its file.
func (c *Config) Effective() ([]byte, error) {
	text, err := yaml.MarshalWithOptions(plain(reflect.ValueOf(*c)), yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("print the configuration: %w", err)
	}
	return text, nil
}

// plain turns a value into what YAML knows, the inverse of decoder.value.
func plain(v reflect.Value) any {
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		text, err := m.MarshalText()
		if err != nil {
			panic("config: " + err.Error()) // none of the types of a Config has an error
		}
		if n, err := strconv.ParseInt(string(text), 10, 64); err == nil && v.CanInt() {
			return n // bytes need no quotes
		}
		return escape(string(text))
	}
	switch v.Kind() {
	case reflect.Struct:
		m := yaml.MapSlice{}
		for _, f := range fields(v.Type()) {
			if secret, ok := reflect.TypeAssert[Secret](v.Field(f.index)); ok {
				m = appendSecret(m, f, secret)
				continue
			}
			m = append(m, yaml.MapItem{Key: f.key, Value: plain(v.Field(f.index))})
		}
		return m
	case reflect.Map:
		m := yaml.MapSlice{}
		levels, _ := reflect.TypeAssert[map[string]Level](v)
		for _, key := range slices.Sorted(maps.Keys(levels)) {
			m = append(m, yaml.MapItem{Key: key, Value: levels[key].String()})
		}
		return m
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[Addresses]() && v.Len() == 1 {
			return plain(v.Index(0))
		}
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plain(v.Index(i))
		}
		return list
	case reflect.String:
		return escape(v.String())
	}
	return v.Interface()
}

// appendSecret writes a secret under the one of its two keys that it was given by.
func appendSecret(m yaml.MapSlice, f field, s Secret) yaml.MapSlice {
	switch {
	case f.file && s.File() != "":
		return append(m, yaml.MapItem{Key: f.key, Value: escape(s.File())})
	case f.file || s.File() != "":
		return m
	case s.IsZero():
		return append(m, yaml.MapItem{Key: f.key, Value: ""})
	}
	return append(m, yaml.MapItem{Key: f.key, Value: redacted})
}
