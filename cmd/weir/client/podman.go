package client

import (
	"errors"
	"fmt"
	"strings"

	"github.com/weir-registry/weir/cmd/weir/config"
)

// Podman is the registries.conf that leads pulls of the upstreams through the
// mirror. podman, CRI-O, skopeo and buildah read it.
func Podman(m Mirror, upstreams []string) File {
	return File{Name: "registries.conf", take: takeBlocks, put: func(text []byte) ([]byte, error) {
		rest, err := withoutBlocks(string(text))
		if err != nil {
			return nil, err
		}
		var fresh strings.Builder
		for _, name := range upstreams {
			table, err := registry(rest, name)
			if err != nil {
				return nil, err
			}
			if table.header != "" {
				// It stays whose it is, and gets weir as the first of its mirrors.
				rest = insert(rest, table.end, m.podmanMirror(name))
				continue
			}
			if fresh.Len() > 0 {
				fresh.WriteString("\n")
			}
			fmt.Fprintf(&fresh, "[[registry]]\nprefix = %q\nlocation = %q\n\n%s", name, name, m.podmanMirror(name))
		}
		if fresh.Len() > 0 {
			rest = insert(rest, len(rest), fresh.String())
		}
		return []byte(rest), nil
	}}
}

// podmanMirror is the mirror's table for the upstream: podman does not say which
// registry it means, so that the path must.
func (m Mirror) podmanMirror(upstream string) string {
	t := fmt.Sprintf("[[registry.mirror]]\nlocation = %q\n", m.host()+"/"+config.PathOf(upstream))
	if m.plain() {
		t += "insecure = true\n"
	}
	return t
}

// registry is the table of that registry in text, or a zero table.
func registry(text, name string) (table, error) {
	for _, t := range tablesOf(text) {
		if strings.HasPrefix(t.header, "registries.") {
			return table{}, errors.New("it is in the old format ([registries.search]): bring it to [[registry]] first")
		}
		if t.header != "registry" {
			continue
		}
		prefix := t.values["prefix"]
		if prefix == "" {
			prefix = t.values["location"]
		}
		if prefix == name {
			return t, nil
		}
	}
	return table{}, nil
}
