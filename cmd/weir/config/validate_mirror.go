package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-registry/weir/origin"
)

func (v *validator) mirror(m *Mirror) {
	v.least("mirror.fills.concurrency", m.Fills.Concurrency, 1)
	v.least("mirror.fills.streams", m.Fills.Streams, 1)
	if m.Fills.PartSize < leastPart {
		v.fail("mirror.fills.part_size", "must be %s or more, not %s", Size(leastPart), m.Fills.PartSize)
	}
	var names []string
	for i := range m.Upstreams {
		path := fmt.Sprintf("mirror.upstreams[%d]", i)
		if ValidHost(m.Upstreams[i].Name) {
			names = append(names, m.Upstreams[i].Name)
		}
		v.names(m.Upstreams[:i], &m.Upstreams[i], path)
		v.upstream(&m.Upstreams[i], path)
	}
	if m.Default != "" && !slices.Contains(names, m.Default) {
		known := "there are none"
		if len(names) > 0 {
			known = "known are " + strings.Join(names, ", ")
		}
		if near, ok := nearest(m.Default, names); ok {
			known = fmt.Sprintf("did you mean %q?", near)
		}
		v.fail("mirror.default", "is %s, which is no upstream: %s", origin.Quote(m.Default), known)
	}
}

// names examines what u is called; before are the upstreams that come first.
func (v *validator) names(before []Upstream, u *Upstream, path string) {
	if u.Name == "" {
		v.fail(path, "has no name: give the host that its images are called by")
		return
	}
	if slices.Contains(dockerHubAliases(), u.Name) {
		v.fail(path+".name", "is %s, another name of docker.io: call it docker.io", u.Name)
		return
	}
	for i, name := range append([]string{u.Name}, u.Aliases...) {
		at := path + ".name"
		if i > 0 {
			at = fmt.Sprintf("%s.aliases[%d]", path, i-1)
		}
		if !ValidHost(name) {
			v.fail(at, "is %s: write a host in lower case, with a port where it has one", origin.Quote(name))
			continue
		}
		if i > 0 && (name == u.Name || slices.Contains(u.Aliases[:i-1], name)) {
			v.fail(at, "is %s once more", name)
		}
		for j := range before {
			if before[j].isCalled(name) {
				v.fail(at, "is %s, and so is mirror.upstreams[%d]: a name leads to one upstream", name, j)
			}
		}
	}
}

func (v *validator) upstream(u *Upstream, path string) {
	v.positive(path+".timeouts.connect", u.Timeouts.Connect)
	v.positive(path+".timeouts.header", u.Timeouts.Header)
	v.positive(path+".timeouts.stall", u.Timeouts.Stall)
	if u.HedgeAfter >= u.Timeouts.Header && u.Timeouts.Header > 0 {
		v.fail(path+".hedge_after", "must be below timeouts.header (%s): the next endpoint is asked by then anyway", u.Timeouts.Header)
	}
	if len(u.Allow) == 0 {
		v.fail(path+".allow", `is empty: it would mirror nothing. Leave it out for all repositories, or write patterns such as "library/*"`)
	}
	for i, g := range u.Allow {
		if p := g.String(); u.Name == dockerHub && p != "**" && !strings.Contains(p, "/") {
			v.fail(fmt.Sprintf("%s.allow[%d]", path, i), "is %s: repositories of docker.io have two components, official images are library/NAME", origin.Quote(p))
		}
	}
	for i, e := range u.Endpoints {
		at := fmt.Sprintf("%s.endpoints[%d]", path, i)
		v.endpoint(e, at)
	}
}

func (v *validator) endpoint(e Endpoint, path string) {
	if e.URL.IsZero() {
		v.fail(path, "has no url")
	}
	if prefix := strings.Trim(e.URL.Path, "/"); prefix != "" {
		if _, err := origin.ParseRepo(prefix); err != nil {
			v.fail(path+".url", "has the path %s, which is no prefix of a repository", origin.Quote(prefix))
		}
	}
	v.credentials(e, path)
	if e.CA != "" {
		v.authorities(path+".ca", e.CA)
	}
	v.pair(path, e.Certificate, e.Key)
	v.least(path+".max_connections", e.MaxConnections, 0)
}
