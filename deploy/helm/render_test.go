//go:build deploy

package helm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-registry/weir/deploy/helm/charttest"
)

// TestLint has helm look at the chart with the values of each scenario, against their
// schema too.
func TestLint(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			if out, err := charttest.Helm(t, "lint", "--strict", "-f", s.values, charttest.Chart(t)); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestPresets: a preset is the same by its name and as a file of values, with the schema
// looking on, and what is said besides stands before it.
func TestPresets(t *testing.T) {
	for _, preset := range charttest.Presets(t) {
		t.Run(preset, func(t *testing.T) {
			byName, err := charttest.Template(t, "r", "--set", "preset="+preset)
			if err != nil {
				t.Fatal(err)
			}
			byFile, err := charttest.Template(t, "r", "-f", filepath.Join(charttest.Chart(t), "presets", preset+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if byName != byFile {
				t.Errorf("by name:\n%s\nby its file:\n%s", byName, byFile)
			}
		})
	}
	t.Run("what is said stands before it", func(t *testing.T) {
		objects := charttest.Render(t, "r", "--set", "preset=central,pdb.enabled=false,networkPolicy.enabled=false,replicas=0,config.mirror.cache.max_size=0")
		for _, o := range objects {
			if o.Kind == "PodDisruptionBudget" || o.Kind == "NetworkPolicy" {
				t.Errorf("%s is there", o)
			}
		}
		if text := charttest.Find(t, objects, "StatefulSet", "").Text; !strings.Contains(text, "\n  replicas: 0\n") {
			t.Errorf("not no replicas:\n%s", text)
		}
		if text := charttest.Find(t, objects, "ConfigMap", "").Data["weir.yaml"]; !strings.Contains(text, "max_size: 0\n") || !strings.Contains(text, "min_free: 5%") {
			t.Errorf("weir.yaml is\n%s", text)
		}
	})
}

// TestSchemas has kubeconform hold all that is rendered against Kubernetes' own schemas.
func TestSchemas(t *testing.T) {
	schemas := charttest.Schemas(t)
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			text, err := charttest.Template(t, "r", "-f", s.values)
			if err != nil {
				t.Fatal(err)
			}
			out, err := kubeconform(t, schemas, text)
			if err != nil || !strings.Contains(out, "Invalid: 0, Errors: 0, Skipped: 0") {
				t.Errorf("%v\n%s", err, out)
			}
			if want := len(charttest.Parse(t, text)); !strings.Contains(out, fmt.Sprintf("Valid: %d,", want)) {
				t.Errorf("not %d objects are valid: %s", want, out)
			}
		})
	}
	t.Run("they can refuse", func(t *testing.T) {
		text, err := charttest.Template(t, "r", "-f", filepath.Join("testdata", "central-bucket.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range [][2]string{
			{"readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true"},
			{"terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: long"},
			{"scaleTargetRef:", "scaleTarget:"},
			{"parentRefs:", "parents:"},
			{"path: /metrics", "paths: /metrics"},
			{"kind: CronJob", "kind: CronTab"},
		} {
			wrong := strings.ReplaceAll(text, change[0], change[1])
			if wrong == text {
				t.Errorf("there is no %q", change[0])
			}
			if out, err := kubeconform(t, schemas, wrong); err == nil {
				t.Errorf("with %q it is accepted:\n%s", change[1], out)
			}
		}
	})
}

// kubeconform runs that on a text.
func kubeconform(t *testing.T, schemas, text string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), charttest.Tool(t, "kubeconform"), "-strict", "-summary", "-schema-location", schemas)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestRefused: what cannot be meant is refused, and the refusal says what is wrong.
func TestRefused(t *testing.T) {
	const bucket = "config.store.blobs.s3.bucket=b,"
	for _, c := range []struct{ set, says string }{
		// By the schema.
		{"preset=cluster", "preset"},
		{"preset=", "preset"},
		{"presets=node", "presets"},
		{"port=70000", "port"},
		{"port=http", "port"},
		{"image.tag=latest", "tag"},
		{"image.digest=sha256:1", "digest"},
		{"config.mirrors.default=docker.io", "mirrors"},
		{"config.mirror.upstreams[0].url=https://ghcr.io", "name"},
		{"storage.type=nfs", "type"},
		{"storage.size=20GiB", "size"},
		{"resources.limits.memory=2GB", "memory"},
		{"registries[0]=https://ghcr.io", "registries"},
		{"containerd.certsDir=certs.d", "certsDir"},
		{"central.endpoint.url=http://x", "endpoint"},
		{"replicas=-1", "replicas"},
		{"pdb.maxUnavailable=half", "maxUnavailable"},
		{"cronJobs.gc.schedule=hourly", "schedule"},
		{"tolerations.operator=Exists", "tolerations"},
		// By the templates.
		{"replicas=2", "needs config.store.blobs.s3"},
		{"autoscaling.enabled=true", "needs config.store.blobs.s3"},
		{bucket + "replicas=2", "needs config.store.redis.url"},
		{"cronJobs.gc.schedule=@daily", "need config.store.blobs.s3"},
		{"preset=node," + bucket + "cronJobs.gc.schedule=@daily", "need config.store.blobs.s3"},
		{"preset=node,replicas=2", "one weir on each node"},
		{"preset=node,ingress.enabled=true,ingress.host=weir.corp", "one weir on each node"},
		{"preset=node,tls.secretName=tls", "no TLS"},
		{"preset=node,config.server.tls.certificate=/tls.crt", "no TLS"},
		{"hostNetwork=true", "preset node"},
		{"preset=sidecar,config.origin.url=", "needs config.origin.url"},
		{"ingress.enabled=true", "ingress.host"},
		{"gateway.enabled=true,gateway.host=weir.corp", "gateway.parentRefs"},
		{"ingress.enabled=true,ingress.host=weir.corp,service.enabled=false", "service.enabled"},
	} {
		t.Run(c.set, func(t *testing.T) {
			text, err := charttest.Template(t, "r", "--set", c.set)
			if err == nil {
				t.Fatalf("it is rendered:\n%s", text)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says nothing of %q: %v", c.says, err)
			}
		})
	}
	t.Run("a Kubernetes that is too old", func(t *testing.T) {
		if _, err := charttest.Template(t, "r", "--kube-version", "1.28.9"); err == nil || !strings.Contains(err.Error(), "1.29 or newer") {
			t.Errorf("it says %v", err)
		}
		if _, err := charttest.Template(t, "r", "--kube-version", "1.29.0"); err != nil {
			t.Error(err)
		}
	})
	t.Run("a preset that is none, where the schema is not looked at", func(t *testing.T) {
		if _, err := charttest.Template(t, "r", "--skip-schema-validation", "--set", "preset=cluster"); err == nil || !strings.Contains(err.Error(), "node, central or sidecar") {
			t.Errorf("it says %v", err)
		}
	})
}

// TestNotes: what is printed after an installation names addresses that answer.
func TestNotes(t *testing.T) {
	// Without a cluster helm shows no notes: here they are a template like others.
	chart := filepath.Join(t.TempDir(), "weir")
	if err := os.CopyFS(chart, os.DirFS(charttest.Chart(t))); err != nil {
		t.Fatal(err)
	}
	notes, err := os.ReadFile(filepath.Join(chart, "templates", "NOTES.txt"))
	if err != nil {
		t.Fatal(err)
	}
	text := `{{- define "notes" }}` + string(notes) + `{{ end }}kind: Notes` + "\nsaid: " + `{{ include "notes" . | quote }}`
	if err := os.WriteFile(filepath.Join(chart, "templates", "shown.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for set, says := range map[string]string{
		"port=5001":           "--set central.url=http://r-weir.weir.svc:5001",
		"tls.secretName=cert": "--set central.url=https://r-weir.weir.svc:5000",
	} {
		said, err := charttest.Helm(t, "template", "r", chart, "--namespace", "weir", "--show-only", "templates/shown.yaml", "--set", set)
		if err != nil || !strings.Contains(said, says+`\n`) {
			t.Errorf("%s: it does not say %s: %v\n%s", set, says, err, said)
		}
	}
}

// TestPackage: the chart is whole when it is packed, with the dashboard.
func TestPackage(t *testing.T) {
	dir := t.TempDir()
	if _, err := charttest.Helm(t, "package", charttest.Chart(t), "--destination", dir); err != nil {
		t.Fatal(err)
	}
	packed, err := filepath.Glob(filepath.Join(dir, "weir-*.tgz"))
	if err != nil || len(packed) != 1 {
		t.Fatalf("packed are %v, %v", packed, err)
	}
	text, err := charttest.Helm(t, "template", "r", packed[0], "--set", "dashboard.enabled=true")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(charttest.Chart(t), "dashboards", "weir.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(want) < 1000 {
		t.Fatalf("the dashboard is %q", want)
	}
	if got := charttest.Find(t, charttest.Parse(t, text), "ConfigMap", "-dashboard").Data["weir.json"]; strings.TrimSpace(got) != strings.TrimSpace(string(want)) {
		t.Errorf("the dashboard has %d bytes, want %d", len(got), len(want))
	}
}
