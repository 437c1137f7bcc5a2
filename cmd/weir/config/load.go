package config

import (
	"os"
	"reflect"
	"strings"
)

// Override is a value that a flag sets on top of all files.
type Override struct {
	// Flag is what the value is called in errors, such as --listen.
	Flag string
	// Key is its place, such as server.listen.
	Key string
	// Value is written as in a file, but for ${}: that is left alone.
	Value string
}

// Load reads the files in order, a later one overriding the former (maps merge,
// lists replace), lays the overrides on top, expands ${VARIABLE} by env (which is
// [os.LookupEnv] outside of tests), fills in the defaults and examines the whole.
// Without any file it begins with what [Default] says.
//
// Its errors are [Errors]. With those of examining it comes the configuration that is no
// good: a file that it names may be what is missing.
func Load(files []string, env func(string) (string, bool), overrides ...Override) (*Config, error) {
	sources := make([]source, 0, len(files))
	var errs Errors
	for i, name := range files {
		if name == "" {
			errs.add(Position{order: i}, "the name of a file is empty")
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			errs.add(Position{File: name, order: i}, "%s", reason(err))
			continue
		}
		sources = append(sources, source{name, text})
	}
	if len(errs) > 0 {
		return nil, errs.orNil()
	}
	return load(sources, env, overrides)
}

// Default is what weir runs without a configuration file: it serves on loopback,
// keeps its data in ./weir-data and mirrors the well-known public registries, of
// which docker.io is the default.
func Default() *Config {
	c := defaults()
	c.Mirror.Default = dockerHub
	c.complete()
	return &c
}

type source struct {
	name string
	text []byte
}

func load(sources []source, env func(string) (string, bool), overrides []Override) (*Config, error) {
	var errs Errors
	c := defaults()
	root := &node{kind: mapping}
	for i, s := range sources {
		r := reader{file: s.name, order: i, errs: &errs}
		if n := r.read(s.text); n != nil {
			root = root.merge(n)
		}
	}
	if len(sources) == 0 {
		c.Mirror.Default = dockerHub
	}
	for _, o := range overrides {
		root = root.merge(o.node(len(sources)))
	}
	d := decoder{env: env, errs: &errs, at: map[string]Position{}}
	d.value(root, reflect.ValueOf(&c).Elem(), "")
	if err := errs.orNil(); err != nil {
		// What does not decode cannot be judged: its defaults would be blamed.
		return nil, err
	}
	c.complete()
	v := validator{at: d.at, errs: &errs}
	v.config(&c)
	return &c, errs.orNil()
}

// node is the override as a file would hold it.
func (o Override) node(order int) *node {
	at := Position{File: o.Flag, order: order}
	n := &node{kind: scalar, at: at, text: escape(o.Value)}
	keys := strings.Split(o.Key, ".")
	for i := len(keys) - 1; i >= 0; i-- {
		n = &node{kind: mapping, at: at, pairs: []pair{{keys[i], at, n}}}
	}
	return n
}

// complete fills in what follows from the rest.
func (c *Config) complete() {
	c.Store.complete()
	c.completeUpstreams()
	c.completeWebhooks()
}
