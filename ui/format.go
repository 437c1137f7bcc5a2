package ui

import (
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/ui/view"
)

// parse reads the templates of pages: one for each, over the layout.
func parse(files static) (map[string]*template.Template, error) {
	layout, err := template.New("layout.html").Funcs(template.FuncMap{
		"static": files.address,
		"size":   size, "number": number, "percent": percent, "ago": ago, "stamp": stamp, "short": short, "kind": kind,
		"link": link, "step": stepOf, "sorted": sorted, "actions": authz.Actions, "since": since, "joined": joined,
		"bars": bars, "share": share, "ratioPlot": ratioPlot, "savedPlot": savedPlot, "usage": usage,
		"inc":  func(i int) int { return i + 1 },
		"has":  func(m map[authz.Action]bool, a authz.Action) bool { _, ok := m[a]; return ok },
		"hits": func(p view.Point) float64 { ratio, _ := p.HitRatio(); return ratio },
	}).ParseFS(templates, "templates/layout.html")
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	entries, err := templates.ReadDir("templates")
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	pages := map[string]*template.Template{}
	for _, e := range entries {
		if e.Name() == "layout.html" {
			continue
		}
		page, err := layout.Clone()
		if err == nil {
			page, err = page.ParseFS(templates, path.Join("templates", e.Name()))
		}
		if err != nil {
			return nil, fmt.Errorf("templates: %w", err)
		}
		pages[e.Name()] = page
	}
	return pages, nil
}

func isError(err error) (*origin.Error, bool) { return errors.AsType[*origin.Error](err) }

// size is n bytes for people.
func size(n int64) string {
	for _, unit := range []struct {
		name string
		size int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= unit.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// number has its thousands apart.
func number(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

func percent(part float64) string { return fmt.Sprintf("%.0f %%", 100*part) }

// ago is how long ago something was, for people.
func ago(t time.Time) string {
	d := time.Since(t)
	count := func(n int, unit string) string {
		if n == 1 {
			return "1 " + unit + " ago"
		}
		return fmt.Sprintf("%d %ss ago", n, unit)
	}
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "in the future"
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return count(int(d/time.Minute), "minute")
	case d < day:
		return count(int(d/time.Hour), "hour")
	case d < 60*day:
		return count(int(d/day), "day")
	case d < 730*day:
		return count(int(d/(30*day)), "month")
	default:
		return count(int(d/(365*day)), "year")
	}
}

// stamp is a time as machines read it, and those who want to know exactly.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// short is enough of a digest to tell it from others.
func short(d digest.Digest) string {
	const enough = 12
	algorithm, hex, _ := strings.Cut(d.String(), ":")
	return algorithm + ":" + hex[:min(len(hex), enough)]
}

// kind is what a media type or artifact type means, for people.
func kind(mediaType string) string {
	for _, known := range []struct{ part, name string }{
		{"vnd.oci.image.index", "Image index"},
		{"manifest.list.v2", "Image index"},
		{"vnd.oci.image.manifest", "Image"},
		{"distribution.manifest.v2", "Image"},
		{"sigstore", "Signature"},
		{"cosign", "Signature"},
		{"notary", "Signature"},
		{"spdx", "SBOM (SPDX)"},
		{"cyclonedx", "SBOM (CycloneDX)"},
		{"sbom", "SBOM"},
		{"in-toto", "Provenance"},
		{"slsa", "Provenance"},
		{"helm", "Helm chart"},
		{"wasm", "WebAssembly"},
		{"signature", "Signature"},
	} {
		if strings.Contains(mediaType, known.part) {
			return known.name
		}
	}
	return mediaType
}

// link is the address of a page, with the query that the pairs make; those without a value
// are left out.
func link(page string, pairs ...any) (string, error) {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return "", fmt.Errorf("link to %s: parameter %v", page, pairs[i])
		}
		if value := fmt.Sprint(pairs[i+1]); value != "" {
			q.Set(key, value)
		}
	}
	if len(q) > 0 {
		page += "?" + q.Encode()
	}
	return Root + page, nil
}

// step is a step of an image's history, as it was in its Dockerfile.
type step struct{ Instruction, Rest string }

func stepOf(s view.Step) step {
	text := strings.TrimSpace(s.CreatedBy)
	text = strings.TrimSpace(strings.TrimSuffix(text, "# buildkit"))
	if said, ok := strings.CutPrefix(text, "/bin/sh -c #(nop) "); ok {
		text = strings.TrimSpace(said)
	} else if said, ok := strings.CutPrefix(text, "/bin/sh -c "); ok {
		text = "RUN " + said
	} else if said, ok := strings.CutPrefix(text, "RUN /bin/sh -c "); ok {
		text = "RUN " + said
	}
	word, rest, _ := strings.Cut(text, " ")
	if word != strings.ToUpper(word) || strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return step{"", text}
	}
	return step{word, strings.TrimSpace(rest)}
}

// pair is an entry of a map.
type pair struct{ Key, Value string }

func sorted(m map[string]string) []pair {
	var list []pair
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, pair{key, m[key]})
	}
	return list
}

// joined is a command as it is typed, more or less.
func joined(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\") {
			quoted[i] = fmt.Sprintf("%q", w)
		}
	}
	return strings.Join(quoted, " ")
}

// since is when a tag came to be what it is, as far as that is known.
func since(t view.Tag) time.Time {
	switch {
	case t.PushedAt != nil:
		return *t.PushedAt
	case t.CheckedAt != nil:
		return *t.CheckedAt
	default:
		return time.Time{}
	}
}
