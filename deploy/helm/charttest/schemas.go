package charttest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// schema is a JSON schema, or a part of one.
type schema = map[string]any

// Schemas cuts the schemas of all kinds that the chart renders out of what Kubernetes, the
// Gateway API and the Prometheus operator publish. It gives the directory that they are in,
// as kubeconform wants to be told.
//
// A key that a schema does not name is no key: they are as strict as an API server is
// towards kubectl.
func Schemas(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join(Tool(t, "kubernetes"), "api", "openapi-spec", "swagger.json"))
	if err != nil {
		t.Fatal(err)
	}
	var published struct{ Definitions map[string]schema }
	if err := json.Unmarshal(text, &published); err != nil {
		t.Fatal(err)
	}
	for name, definition := range published.Definitions {
		switch {
		case strings.HasSuffix(name, ".IntOrString"):
			definition["type"] = []string{"integer", "string"}
		case strings.HasSuffix(name, ".Quantity"):
			definition["type"] = []string{"number", "string"}
		}
		closeObjects(definition)
	}
	for name, definition := range published.Definitions {
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 || strings.HasSuffix(name, "List") {
			continue // what every group has, such as DeleteOptions, and what nobody writes
		}
		kind, _ := kinds[0].(map[string]any)
		needed := map[string]schema{}
		refer(name, published.Definitions, needed)
		store(t, dir, kind["group"].(string), kind["version"].(string), kind["kind"].(string),
			schema{"$ref": "#/definitions/" + name, "definitions": needed})
	}
	for _, file := range CustomResources(t) {
		var crd struct {
			Spec struct {
				Group string
				Names struct{ Kind string }
				// The first version is the one in which the chart writes.
				Versions []struct {
					Name   string
					Schema struct {
						OpenAPIV3Schema schema `yaml:"openAPIV3Schema"`
					}
				}
			}
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, &crd); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, v := range crd.Spec.Versions {
			closeObjects(v.Schema.OpenAPIV3Schema)
			store(t, dir, crd.Spec.Group, v.Name, crd.Spec.Names.Kind, v.Schema.OpenAPIV3Schema)
		}
	}
	return filepath.Join(dir, "{{.ResourceKind}}{{.KindSuffix}}.json")
}

// CustomResources are the files that define the kinds that are not Kubernetes' own.
func CustomResources(t testing.TB) []string {
	return []string{
		filepath.Join(Tool(t, "gateway-api"), "config", "crd", "standard", "gateway.networking.k8s.io_httproutes.yaml"),
		filepath.Join(Tool(t, "prometheus-operator"), "example", "prometheus-operator-crd", "monitoring.coreos.com_servicemonitors.yaml"),
	}
}

// closeObjects lets an object have no keys but those that its schema names.
func closeObjects(s schema) {
	properties, _ := s["properties"].(map[string]any)
	for _, property := range properties {
		if inner, ok := property.(map[string]any); ok {
			closeObjects(inner)
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if inner, ok := s[key].(map[string]any); ok {
			closeObjects(inner)
		}
	}
	_, open := s["additionalProperties"]
	if properties != nil && !open && s["x-kubernetes-preserve-unknown-fields"] != true {
		s["additionalProperties"] = false
	}
}

// refer collects a definition and all that it refers to.
func refer(name string, all, needed map[string]schema) {
	if needed[name] != nil {
		return
	}
	needed[name] = all[name]
	var walk func(any)
	walk = func(part any) {
		switch part := part.(type) {
		case map[string]any:
			if to, ok := part["$ref"].(string); ok {
				refer(strings.TrimPrefix(to, "#/definitions/"), all, needed)
			}
			for _, inner := range part {
				walk(inner)
			}
		case []any:
			for _, inner := range part {
				walk(inner)
			}
		}
	}
	walk(all[name])
}

// store writes a schema under the name by which kubeconform looks for it.
func store(t testing.TB, dir, group, version, kind string, s schema) {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.ToLower(kind)
	if short, _, _ := strings.Cut(group, "."); short != "" {
		name += "-" + short
	}
	if err := os.WriteFile(filepath.Join(dir, name+"-"+version+".json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
}
