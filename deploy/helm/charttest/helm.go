package charttest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Root is the top of the checkout.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		above := filepath.Dir(dir)
		if above == dir {
			t.Fatal("this is no checkout: no go.mod")
		}
		dir = above
	}
}

// Chart is where the chart is.
func Chart(t testing.TB) string { return filepath.Join(Root(t), "deploy", "helm", "weir") }

// Presets are the names of all presets.
func Presets(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Chart(t), "presets", "*.yaml"))
	if err != nil || len(files) != 3 {
		t.Fatalf("the presets are %v, %v", files, err)
	}
	for i, file := range files {
		files[i] = strings.TrimSuffix(filepath.Base(file), ".yaml")
	}
	return files
}

// Tool is the path of a program, or of a module's sources, that tools.sh knows.
func Tool(t testing.TB, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(Root(t), "conformance", "tools.sh"), name).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("tools.sh %s: %v\n%s", name, err, exit.Stderr)
		}
		t.Fatalf("tools.sh %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// Helm runs helm, with no settings of this machine's, and gives what it printed. The
// error holds what it complained of.
func Helm(t testing.TB, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), Tool(t, "helm"), args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG=/dev/null")
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w\n%s", strings.Join(args, " "), err, complaints.Bytes())
	}
	return out.String(), nil
}

// Render gives the objects of a release of the chart, in namespace weir.
func Render(t testing.TB, release string, args ...string) []Object {
	t.Helper()
	text, err := Template(t, release, args...)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(t, text)
}

// Template gives the text of a release of the chart, in namespace weir.
func Template(t testing.TB, release string, args ...string) (string, error) {
	t.Helper()
	return Helm(t, append([]string{"template", release, Chart(t), "--namespace", "weir"}, args...)...)
}
