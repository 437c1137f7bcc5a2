package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weir-registry/weir/origin"
)

// printExplanation writes e for people: a line for each thing that is known.
func printExplanation(to io.Writer, e *origin.Explanation) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	line := func(name string, parts ...string) {
		var said []string
		for _, p := range parts {
			if p != "" {
				said = append(said, p)
			}
		}
		if len(said) > 0 {
			fmt.Fprintf(w, "%s\t%s\n", name, strings.Join(said, ", "))
		}
	}
	line("image", e.Image)
	line("repository", e.Repository)
	line("route", route(e))
	switch t := e.Tag; {
	case t != nil:
		line("tag", string(t.Digest))
		line("", freshness(t)...)
	case e.Manifest == nil:
		line("reference", e.Reference, "not known here"+either(e.Route == "mirrored", ": a pull asks the upstream", ""))
	}
	if m := e.Manifest; m != nil {
		line("manifest", string(m.Digest))
		line("", manifest(m)...)
	}
	for i := range e.Manifests {
		line(either(i == 0, "manifests", ""), string(e.Manifests[i].Digest))
		line("", manifest(&e.Manifests[i])...)
	}
	for i, b := range e.Blobs {
		line(either(i == 0, "blobs", ""), string(b.Digest))
		line("", b.MediaType, size(b.Size), state(b), used(b.LastUse))
	}
	if e.Shortened {
		line("", "it names more than these")
	}
	return w.Flush()
}

func route(e *origin.Explanation) string {
	if e.Route != "mirrored" {
		return e.Route
	}
	hosts := make([]string, len(e.Endpoints))
	for i, endpoint := range e.Endpoints {
		hosts[i] = endpoint.Host
	}
	return "mirrored from " + e.Upstream + " at " + strings.Join(hosts, ", then ")
}

func freshness(t *origin.ExplainedTag) []string {
	parts := []string{t.Why}
	if t.Age != "" {
		parts = append(parts, "checked "+t.Age+" ago"+either(t.Endpoint != "", " at "+t.Endpoint, ""))
	}
	if t.TTL != "" && !t.Immutable {
		parts = append(parts, "TTL "+t.TTL)
	}
	return parts
}

func manifest(m *origin.ExplainedManifest) []string {
	if !m.Cached && m.MediaType == "" {
		return []string{"not here"}
	}
	return []string{m.Platform, m.MediaType, size(m.Size), either(m.Cached, "stored", "not here")}
}

func state(b origin.ExplainedBlob) string {
	switch b.Where {
	case "filling":
		return "being fetched" + either(b.Endpoint != "", " from "+b.Endpoint, "") + ": " + size(b.Received) + " so far"
	case "upstream":
		return "not here"
	}
	return b.Where
}

func used(at *time.Time) string {
	if at == nil {
		return ""
	}
	return "last used " + at.UTC().Format(time.DateTime) + " UTC"
}

// size is n bytes for people.
func size(n int64) string {
	for _, unit := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= unit.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

func either(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}
