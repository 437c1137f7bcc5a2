//go:build deploy

package helm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
	"github.com/weir-registry/weir/deploy/helm/charttest"
)

// TestContainers: no container may more than it must, and each says what it needs.
func TestContainers(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			var workloads int
			for _, o := range s.objects(t) {
				if o.Metadata.Namespace != "weir" {
					t.Errorf("%s is in namespace %q", o, o.Metadata.Namespace)
				}
				pod, ok := o.Pod(t)
				if !ok {
					continue
				}
				workloads++
				if token := pod.Spec.AutomountServiceAccountToken; token == nil || *token {
					t.Errorf("%s: pods have a token of the API server", o)
				}
				for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
					for _, wrong := range faults(c) {
						t.Errorf("%s, container %s: %s", o, c.Name, wrong)
					}
				}
			}
			if workloads == 0 {
				t.Error("nothing runs")
			}
		})
	}
}

// faults are what is wrong with a container.
func faults(c charttest.Container) (found []string) {
	s := c.SecurityContext
	no := func(flag *bool) bool { return flag != nil && !*flag }
	root := s.RunAsUser == nil || *s.RunAsUser == 0 || s.RunAsNonRoot == nil || !*s.RunAsNonRoot
	_, tag, _ := strings.Cut(c.Image[strings.LastIndex(c.Image, "/"):], ":")
	for wrong, is := range map[string]bool{
		"it may be root":                    root && c.Name != "containerd",
		"its root may be written to":        !s.ReadOnlyRootFilesystem,
		"it may gain privileges":            !no(s.AllowPrivilegeEscalation) || s.Privileged,
		"it has capabilities":               !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || len(s.Capabilities.Add) > 0,
		"its system calls are not filtered": s.SeccompProfile.Type != "RuntimeDefault",
		"it requests no CPU":                c.Resources.Requests["cpu"] == nil,
		"it requests no memory":             c.Resources.Requests["memory"] == nil,
		"its memory has no limit":           c.Resources.Limits["memory"] == nil,
		"its image may be any":              tag == "" || tag == "latest",
		"it is not the image's entry point": len(c.Command) > 0,
	} {
		if is {
			found = append(found, wrong)
		}
	}
	slices.Sort(found)
	return found
}

// TestFaultsBite proves that TestContainers can fail.
func TestFaultsBite(t *testing.T) {
	if found := faults(charttest.Container{Name: "weir", Image: "example.com:5000/weir:latest", Command: []string{"sh"}}); len(found) != 10 {
		t.Errorf("of a container that says nothing: %q", found)
	}
}

// TestConfigs: weir takes every configuration that is rendered, as its container names it.
func TestConfigs(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			objects := s.objects(t)
			for _, o := range objects {
				pod, ok := o.Pod(t)
				if !ok {
					continue
				}
				c := pod.Spec.Containers[0]
				if said, err := check(t, c, configFiles(t, pod, objects)); err != nil {
					t.Errorf("%s: %v\n%s", o, err, said)
				}
			}
		})
	}
	t.Run("they can be refused", func(t *testing.T) {
		objects := charttest.Render(t, "r", "--set", "config.mirror.cache.max_sise=1GiB")
		pod, _ := charttest.Find(t, objects, "StatefulSet", "").Pod(t)
		if said, err := check(t, pod.Spec.Containers[0], configFiles(t, pod, objects)); err == nil || !strings.Contains(said, "max_sise") {
			t.Errorf("%v: %s", err, said)
		}
	})
}

// configFiles are the files of a pod's configuration, by their names.
func configFiles(t *testing.T, pod charttest.Pod, objects []charttest.Object) map[string]string {
	t.Helper()
	i := slices.IndexFunc(pod.Spec.Volumes, func(v charttest.Volume) bool { return v.Name == "config" })
	if i < 0 {
		t.Fatal("the pod has no configuration")
	}
	return pod.Spec.Volumes[i].Files(t, objects)
}

// check has weir look at the files that a container's arguments name.
func check(t *testing.T, c charttest.Container, files map[string]string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	certificate := mtlstest.NewFiles(t)
	corp := mtlstest.Server()
	corp.DNSNames = []string{"registry.corp.example"}
	certificate.PutPair(t, mtlstest.NewAuthority(t, "corp").Issue(t, corp))
	for name, text := range files {
		text = strings.ReplaceAll(text, "/etc/weir-tls", filepath.Dir(certificate.Key))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"check"}
	for i, arg := range c.Args {
		if arg == "--config" {
			args = append(args, "--config", filepath.Join(dir, strings.TrimPrefix(c.Args[i+1], "/etc/weir/")))
		}
	}
	if len(args) != 1+2*len(files) {
		t.Errorf("%q does not name all of %d files", c.Args, len(files))
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(charttest.Root(t), "bin", "weir"), args...)
	cmd.Env = append(os.Environ(), c.Environ(t, "10.1.2.3")...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// configuration is what the tests below look at of weir.yaml.
type configuration struct {
	Server struct {
		Listen      string
		ExternalURL string `yaml:"external_url"`
	}
	Admin struct{ Listen string }
	Store struct {
		Blobs map[string]map[string]any
		Redis struct{ Advertise string }
	}
	Origin struct{ GC, Scrub, Retention struct{ Interval string } }
	Mirror struct{ Upstreams []upstream }
	Authz  struct {
		Policy struct {
			Default string
			Allow   []string
		}
	}
}

type upstream struct {
	Name      string
	Endpoints []struct {
		URL            string
		MaxConnections int `yaml:"max_connections"`
		Fallback       bool
	}
	Tags struct{ TTL string }
}

// weirYAML is the configuration of a rendered chart.
func weirYAML(t *testing.T, objects []charttest.Object) (c configuration) {
	t.Helper()
	i := slices.IndexFunc(objects, func(o charttest.Object) bool { return o.Kind == "ConfigMap" && o.Data["weir.yaml"] != "" })
	if i < 0 {
		t.Fatal("there is no weir.yaml")
	}
	if err := yaml.Unmarshal([]byte(objects[i].Data["weir.yaml"]), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPolicy: each preset says who may, and lets nobody push.
func TestPolicy(t *testing.T) {
	for _, preset := range charttest.Presets(t) {
		p := weirYAML(t, charttest.Render(t, "r", "--set", "preset="+preset)).Authz.Policy
		if p.Default != "deny" || !slices.Equal(p.Allow, []string{"request.action in ['pull', 'list']"}) {
			t.Errorf("%s: the policy is %+v", preset, p)
		}
	}
}

// endpoints writes down where an upstream is asked, in order; with a ? what is not while
// those before it answer.
func endpoints(u upstream) string {
	var said strings.Builder
	said.WriteString(u.Name)
	for _, e := range u.Endpoints {
		said.WriteString(" " + e.URL)
		if e.Fallback {
			said.WriteString("?")
		}
	}
	return said.String()
}

func TestNode(t *testing.T) {
	objects := byName(t, "node").objects(t)
	pod, _ := charttest.Find(t, objects, "DaemonSet", "weir-node").Pod(t)
	c := weirYAML(t, objects)
	if !pod.Spec.HostNetwork || pod.Spec.DNSPolicy != "ClusterFirstWithHostNet" || pod.Spec.PriorityClassName != "system-node-critical" || len(pod.Spec.Tolerations) != 1 {
		t.Errorf("the pod is %+v", pod.Spec)
	}
	// Nobody but the node reaches the mirror; the kubelet reaches what tells of it.
	if c.Server.Listen != "127.0.0.1:5000" || c.Admin.Listen != "${WEIR_ADMIN:-:5001}" {
		t.Errorf("it listens on %s and %s", c.Server.Listen, c.Admin.Listen)
	}
	weir := pod.Container(t, "weir")
	if env := weir.Environ(t, "10.1.2.3"); !slices.Contains(env, "WEIR_ADMIN=[10.1.2.3]:5001") {
		t.Errorf("its environment is %q", env)
	}
	if weir.ReadinessProbe.HTTPGet.Port != "admin" || weir.ReadinessProbe.HTTPGet.Path != "/readyz" || weir.LivenessProbe.HTTPGet.Path != "/healthz" {
		t.Errorf("it is asked at %+v and %+v", weir.ReadinessProbe, weir.LivenessProbe)
	}
	var said []string
	for _, u := range c.Mirror.Upstreams {
		said = append(said, endpoints(u))
	}
	if len(said) != 7 || said[0] != "docker.io http://weir-central.weir.svc:5000/docker.io https://registry-1.docker.io?" ||
		said[6] != "mcr.microsoft.com http://weir-central.weir.svc:5000/mcr.microsoft.com https://mcr.microsoft.com?" {
		t.Errorf("the upstreams are %q", said)
	}
	// The files of containerd, by a sidecar that starts first and ends last.
	client := pod.Spec.InitContainers[0]
	want := "client containerd --mirror http://127.0.0.1:5000 --upstream docker.io --upstream ghcr.io --upstream quay.io" +
		" --upstream registry.k8s.io --upstream gcr.io --upstream public.ecr.aws --upstream mcr.microsoft.com --write /host/certs.d --hold"
	if got := strings.Join(client.Args, " "); got != want || client.RestartPolicy != "Always" {
		t.Errorf("restarted %s: %s", client.RestartPolicy, got)
	}
	var host []string
	for _, v := range pod.Spec.Volumes {
		if v.HostPath != nil {
			host = append(host, fmt.Sprintf("%s %s %s", v.Name, v.HostPath.Path, v.HostPath.Type))
		}
	}
	// Nothing else of the host is touched: what weir keeps goes with the pod.
	if !slices.Equal(host, []string{"certs /etc/containerd/certs.d DirectoryOrCreate"}) {
		t.Errorf("of the host it has %q", host)
	}
	for _, m := range weir.VolumeMounts {
		if m.Name == "certs" {
			t.Error("weir itself may write the files of containerd")
		}
	}
}

func TestNodeHostPort(t *testing.T) {
	objects := byName(t, "node-hostport").objects(t)
	pod, _ := charttest.Find(t, objects, "DaemonSet", "").Pod(t)
	c := weirYAML(t, objects)
	if port := pod.Container(t, "weir").Ports[0]; pod.Spec.HostNetwork || port.HostPort != 5050 || port.HostIP != "127.0.0.1" || c.Server.Listen != ":5050" {
		t.Errorf("%+v of the host leads to %s", port, c.Server.Listen)
	}
	var said []string
	for _, u := range c.Mirror.Upstreams {
		said = append(said, endpoints(u))
		if u.Endpoints[0].MaxConnections != 16 {
			t.Errorf("%s: not the central tier's endpoint: %+v", u.Name, u.Endpoints[0])
		}
	}
	if !slices.Equal(said, []string{
		"quay.io https://weir.corp.example/quay.io https://quay.io?",
		"docker.io https://weir.corp.example/docker.io https://mirror.gcr.io? https://registry-1.docker.io?",
		"registry.corp.example:5000 https://weir.corp.example/registry.corp.example_5000 https://registry.corp.example:5000?",
	}) || c.Mirror.Upstreams[0].Tags.TTL != "1h" {
		t.Errorf("the upstreams are %q, %+v", said, c.Mirror.Upstreams[0].Tags)
	}
	args := strings.Join(pod.Container(t, "containerd").Args, " ")
	if !strings.Contains(args, "--upstream registry.corp.example:5000 --version 2.2 --write") || !strings.Contains(args, "--mirror http://127.0.0.1:5050 ") {
		t.Errorf("the files of containerd are from %s", args)
	}
}

func TestNodeAlone(t *testing.T) {
	objects := byName(t, "node-alone").objects(t)
	pod, _ := charttest.Find(t, objects, "DaemonSet", "").Pod(t)
	var said []string
	for _, u := range weirYAML(t, objects).Mirror.Upstreams {
		said = append(said, endpoints(u))
	}
	if !slices.Equal(said, []string{"docker.io https://mirror.gcr.io", "registry.corp.example:5000"}) || len(pod.Spec.InitContainers) > 0 {
		t.Errorf("%q, %v", said, pod.Spec.InitContainers)
	}
}

// TestCentral: on a volume it is one pod, which does its own upkeep; on a bucket it is as
// many as are wanted, which know of each other.
func TestCentral(t *testing.T) {
	objects := byName(t, "central").objects(t)
	set := charttest.Find(t, objects, "StatefulSet", "weir-central")
	if c := weirYAML(t, objects); !strings.Contains(set.Text, "volumeClaimTemplates:") || c.Store.Blobs["filesystem"]["root"] != "/data" || c.Origin.GC.Interval != "" {
		t.Errorf("%+v\n%s", c, set.Text)
	}
	objects = byName(t, "central-bucket").objects(t)
	pod, _ := charttest.Find(t, objects, "Deployment", "").Pod(t)
	c := weirYAML(t, objects)
	if s3 := c.Store.Blobs["s3"]; s3["spool"] != "/data" || s3["bucket"] != "images" || c.Store.Blobs["filesystem"] != nil {
		t.Errorf("the store is %v", c.Store.Blobs)
	}
	if env := pod.Container(t, "weir").Environ(t, "10.1.2.3"); c.Store.Redis.Advertise != "${WEIR_ADVERTISE:-}" || !slices.Contains(env, "WEIR_ADVERTISE=http://10.1.2.3:5000") {
		t.Errorf("it advertises %s, %q", c.Store.Redis.Advertise, env)
	}
	if c.Server.ExternalURL != "https://weir.corp.example" {
		t.Errorf("it is known as %s", c.Server.ExternalURL)
	}
	commands := map[string]string{}
	for _, o := range objects {
		if o.Kind == "CronJob" {
			job, _ := o.Pod(t)
			commands[o.Metadata.Name] = strings.Join(job.Spec.Containers[0].Args, " ")
		}
	}
	const configs = " --config /etc/weir/weir.yaml --config /etc/weir/secret.yaml"
	for name, command := range map[string]string{"gc": "gc", "scrub": "scrub --repair", "retain": "retain"} {
		if got := commands["weir-central-bucket-"+name]; got != command+configs {
			t.Errorf("%s runs %q", name, got)
		}
	}
	// Who has a CronJob for it does not do it himself.
	if o := c.Origin; o.GC.Interval != "0s" || o.Scrub.Interval != "0s" || o.Retention.Interval != "0s" {
		t.Errorf("the servers do it, too: %+v", o)
	}
	for _, o := range objects {
		if strings.Contains(o.Text, "secret@redis") && o.Kind != "Secret" {
			t.Errorf("a password is in %s", o)
		}
	}
}

// TestLongNames: however long a name is that somebody gives, objects are called what others call
// them, and as long as they may be.
func TestLongNames(t *testing.T) {
	called := regexp.MustCompile(`\bx{20,}[-a-z]*`)
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			objects := charttest.Render(t, "r", "-f", s.values, "--set", "fullnameOverride="+strings.Repeat("x", 63))
			names := map[string]bool{}
			for _, o := range objects {
				names[o.Metadata.Name] = true
				most := 63
				switch o.Kind {
				case "CronJob", "StatefulSet":
					most = 52
				}
				if n := o.Metadata.Name; len(n) > most || !called.MatchString(n) {
					t.Errorf("a %s is called %s", o.Kind, n)
				}
			}
			for _, o := range objects {
				for _, name := range called.FindAllString(o.Text, -1) {
					if !names[name] {
						t.Errorf("%s names %s, which is nowhere", o, name)
					}
				}
			}
		})
	}
}

// TestRestarts: pods are made anew for what weir reads at its start only.
func TestRestarts(t *testing.T) {
	checksum := func(set string) string {
		text := charttest.Find(t, charttest.Render(t, "r", "--set", set), "StatefulSet", "").Text
		_, after, found := strings.Cut(text, "checksum/restart: ")
		if !found {
			t.Fatalf("there is no checksum:\n%s", text)
		}
		sum, _, _ := strings.Cut(after, "\n")
		return sum
	}
	before := checksum("port=5000")
	if checksum("config.mirror.default=docker.io") != before {
		t.Error("pods are made anew for what weir reads while it runs")
	}
	for _, set := range []string{"port=5002", "secretConfig.store.redis.url=redis://redis", "config.store.blobs.filesystem.root=/data/x", "tls.secretName=tls"} {
		if checksum(set) == before {
			t.Errorf("%s holds only after somebody made the pods anew", set)
		}
	}
}
