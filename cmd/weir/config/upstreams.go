package config

import (
	"slices"
	"strconv"
	"strings"
)

// completeUpstreams adds the well-known upstreams that are missing, and to each
// upstream the aliases and the endpoint that its name implies.
func (c *Config) completeUpstreams() {
	m := &c.Mirror
	if m.WellKnown {
		for _, name := range WellKnown() {
			if !slices.ContainsFunc(m.Upstreams, func(u Upstream) bool { return u.isCalled(name) }) {
				u := Upstream{Name: name}
				u.setDefaults()
				m.Upstreams = append(m.Upstreams, u)
			}
		}
	}
	for i := range m.Upstreams {
		m.Upstreams[i].complete()
	}
	for _, u := range m.Upstreams {
		if u.isCalled(m.Default) {
			m.Default = u.Name
		}
	}
}

func (u *Upstream) isCalled(name string) bool {
	return u.Name == name || slices.Contains(u.Aliases, name)
}

func (u *Upstream) complete() {
	endpoint := "https://" + u.Name
	if u.Name == dockerHub {
		endpoint = dockerHubEndpoint
		for _, alias := range dockerHubAliases() {
			if !slices.Contains(u.Aliases, alias) {
				u.Aliases = append(u.Aliases, alias)
			}
		}
	}
	if len(u.Endpoints) == 0 && ValidHost(u.Name) {
		e := Endpoint{}
		if e.URL.UnmarshalText([]byte(endpoint)) == nil {
			u.Endpoints = []Endpoint{e}
		}
	}
}

// ValidHost reports whether s can be the host of an image's name: lower-case labels
// of letters, digits and inner hyphens, and perhaps a port. It then is a valid
// first component of a repository too, once the colon is an underscore.
func ValidHost(s string) bool {
	const longest = 253 // of a DNS name
	host, port, hasPort := strings.Cut(s, ":")
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '0' {
			return false
		}
	}
	if len(host) > longest {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || 'z' < c) && (c < '0' || '9' < c) && c != '-' {
				return false
			}
		}
	}
	return true
}

// PathOf is the first component of an upstream's repositories where they are named
// by path: its name, in which the colon before a port is an underscore.
func PathOf(name string) string { return strings.Replace(name, ":", "_", 1) }
