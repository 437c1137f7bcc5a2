//go:build deploy || apiserver

package helm

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-registry/weir/deploy/helm/charttest"
)

// scenario is a way to install the chart.
type scenario struct {
	name, values string // the file of its values
}

// scenarios are the presets, and what is in testdata.
func scenarios(t *testing.T) []scenario {
	t.Helper()
	var all []scenario
	for _, pattern := range []string{filepath.Join(charttest.Chart(t), "presets", "*.yaml"), filepath.Join("testdata", "*.yaml")} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) < 3 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			all = append(all, scenario{strings.TrimSuffix(filepath.Base(file), ".yaml"), file})
		}
	}
	return all
}

// objects renders the scenario.
func (s scenario) objects(t *testing.T) []charttest.Object {
	t.Helper()
	return charttest.Render(t, "weir-"+s.name, "-f", s.values)
}

// byName is the scenario of that name.
func byName(t *testing.T, name string) scenario {
	t.Helper()
	all := scenarios(t)
	i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("there is no %s", name)
	}
	return all[i]
}
