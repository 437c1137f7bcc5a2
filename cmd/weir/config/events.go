package config

import (
	"encoding"
	"fmt"
	"slices"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/events"
	"github.com/weir-registry/weir/store"
)

// Receiver is somebody who is told what happens.
type Receiver struct {
	Name string `yaml:"name"`
	URL  URL    `yaml:"url"`
	// Secret is what events are signed with; none: they are not.
	Secret Secret `yaml:"secret"`
	// Events are push, delete, pull, fill; none: all of them.
	Events []EventKind `yaml:"events"`
	// Repositories are those that it is told of; none: all.
	Repositories []origin.Glob `yaml:"repositories"`
	// CA is a PEM file of the authorities that are believed besides the system's.
	CA string `yaml:"ca"`
	// Certificate and Key are PEM files that identify weir there: both or neither.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// Wants reports whether the receiver wants to be told of a repository.
func (r Receiver) Wants(repo origin.Repo) bool {
	return len(r.Repositories) == 0 || slices.ContainsFunc(r.Repositories, func(g origin.Glob) bool { return g.Match(repo) })
}

// EventKind is what a receiver is told of.
type EventKind events.Kind

var _ encoding.TextUnmarshaler = (*EventKind)(nil)

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *EventKind) UnmarshalText(text []byte) error {
	kinds := events.Kinds()
	if !slices.Contains(kinds, events.Kind(text)) {
		return fmt.Errorf("%s is no event: push, delete, pull and fill are", origin.Quote(string(text)))
	}
	*k = EventKind(text)
	return nil
}

func (v *validator) events(c *Config) {
	var names []string
	for i, r := range c.Events {
		path := fmt.Sprintf("events[%d]", i)
		switch {
		case r.Name == "":
			v.fail(path, "has no name: give what the metrics and the log call it by")
		case !store.ValidKey(r.Name) || len(r.Name) > 100 || slices.Contains([]byte(r.Name), '/'):
			v.fail(path+".name", "is no name: up to 100 characters, without spaces and slashes")
		case slices.Contains(names, r.Name):
			v.fail(path+".name", "is %s once more", origin.Quote(r.Name))
		}
		names = append(names, r.Name)
		if r.URL.IsZero() {
			v.fail(path, "has no url")
		}
		if file := r.Secret.File(); file != "" {
			v.readable(path+".secret_file", file)
		}
		if r.CA != "" {
			v.authorities(path+".ca", r.CA)
		}
		v.pair(path, r.Certificate, r.Key)
	}
}
