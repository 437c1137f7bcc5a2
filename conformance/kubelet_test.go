//go:build clients

package conformance

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-registry/weir/deploy/helm/charttest"
)

// kubelet runs pods that the chart renders on a host, with runc, as far as the chart
// relies on it: who a container is and what it may, where its files are, who starts first
// and who ends last, and when a pod is ready.
type kubelet struct {
	*host
	ip   string
	dir  string       // the host's files are below it, at the paths that pods know them by
	asks *http.Client // from this host
	// Of every image: it is a directory with the binary, and nothing else but these.
	authorities, hosts string // PEM; lines of /etc/hosts
}

// runningPod is one that a kubelet has started.
type runningPod struct {
	sidecars, containers []*process
}

// run starts a pod and waits until it is ready.
func (k *kubelet) run(t *testing.T, pod charttest.Pod, objects []charttest.Object) *runningPod {
	t.Helper()
	dir, err := os.MkdirTemp(k.dir, "pod-")
	if err != nil {
		t.Fatal(err)
	}
	volumes := k.volumes(t, dir, pod, objects)
	p := &runningPod{}
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != "Always" {
			t.Fatalf("%s is no sidecar", c.Name)
		}
		p.sidecars = append(p.sidecars, k.container(t, dir, pod, c, volumes))
	}
	for _, c := range pod.Spec.Containers {
		server := k.container(t, dir, pod, c, volumes)
		server.ready(t, func() error { return k.probe(t, c) })
		p.containers = append(p.containers, server)
	}
	return p
}

// stop ends the pod: its sidecars when all else has ended.
func (p *runningPod) stop(t *testing.T) {
	t.Helper()
	for _, c := range slices.Concat(p.containers, p.sidecars) {
		c.stop(t)
		if c.err != nil {
			t.Errorf("%s ended with %v", c.name, c.err)
		}
	}
}

// volumes makes the pod's volumes, and says where they are. What is no volume of the pod is
// a claim, and stays when the pod is made anew.
func (k *kubelet) volumes(t *testing.T, dir string, pod charttest.Pod, objects []charttest.Object) func(name string) string {
	t.Helper()
	group := *pod.Spec.SecurityContext.FSGroup
	given := func(path string) string {
		t.Helper()
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, 0, group); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o775|os.ModeSetgid); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return path
	}
	made := map[string]string{}
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.Projected != nil:
			made[v.Name] = filepath.Join(dir, v.Name)
			for name, text := range v.Files(t, objects) {
				write(t, filepath.Join(made[v.Name], name), text)
			}
		case v.EmptyDir != nil:
			made[v.Name] = given(filepath.Join(dir, v.Name))
		case v.HostPath != nil && v.HostPath.Type == "DirectoryOrCreate":
			made[v.Name] = filepath.Join(k.dir, v.HostPath.Path)
			if err := os.MkdirAll(made[v.Name], 0o755); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("volume %s is of a kind that nobody here knows: %+v", v.Name, v)
		}
	}
	return func(name string) string {
		if made[name] == "" {
			made[name] = given(filepath.Join(k.dir, "claims", name))
		}
		return made[name]
	}
}

// mount is one of the OCI's runtime specification.
type mount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

// container starts one, with the rights that its security context leaves it.
func (k *kubelet) container(t *testing.T, dir string, pod charttest.Pod, c charttest.Container, volumes func(string) string) *process {
	t.Helper()
	bundle := filepath.Join(dir, c.Name)
	k.image(t, filepath.Join(bundle, "rootfs"))
	s := c.SecurityContext
	if !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || len(s.Capabilities.Add) > 0 {
		t.Fatalf("container %s keeps capabilities", c.Name)
	}
	mounts := []mount{{"/proc", "proc", "proc", nil}, {"/dev", "tmpfs", "tmpfs", []string{"nosuid", "mode=755"}}}
	for _, m := range c.VolumeMounts {
		options := []string{"rbind", "rw"}
		if m.ReadOnly {
			options[1] = "ro"
		}
		mounts = append(mounts, mount{m.MountPath, "bind", volumes(m.Name), options})
	}
	name := k.name + "-" + c.Name
	spec, err := json.Marshal(map[string]any{
		"ociVersion": "1.0.2",
		"root":       map[string]any{"path": "rootfs", "readonly": s.ReadOnlyRootFilesystem},
		"mounts":     mounts,
		"process": map[string]any{
			"user":            map[string]any{"uid": *s.RunAsUser, "gid": *s.RunAsGroup, "additionalGids": []int{*pod.Spec.SecurityContext.FSGroup}},
			"args":            append([]string{"/usr/bin/weir"}, c.Args...),
			"env":             c.Environ(t, k.ip),
			"cwd":             "/",
			"capabilities":    map[string]any{},
			"noNewPrivileges": !*s.AllowPrivilegeEscalation,
		},
		// None of the network: a container has that of whoever starts it.
		"linux": map[string]any{"namespaces": []map[string]string{{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(bundle, "config.json"), string(spec))
	var p *process
	k.must(t, func() {
		p = start(t, name, nil, "runc", "--root", filepath.Join(dir, "runc"), "run", "--bundle", bundle, name)
	})
	return p
}

// image makes the root of a container: a link to the binary, no shell, no library.
func (k *kubelet) image(t *testing.T, root string) {
	t.Helper()
	write(t, filepath.Join(root, "etc", "hosts"), k.hosts)
	write(t, filepath.Join(root, "etc", "ssl", "certs", "ca-certificates.crt"), k.authorities)
	text, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "usr", "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "usr", "bin", "weir"), text, 0o755); err != nil {
		t.Fatal(err)
	}
}

// probe asks whether the container is ready, as the kubelet of a host asks: at the pod's
// address.
func (k *kubelet) probe(t *testing.T, c charttest.Container) error {
	t.Helper()
	get := c.ReadinessProbe.HTTPGet
	for _, port := range c.Ports {
		if port.Name != get.Port {
			continue
		}
		resp, err := k.asks.Get("http://" + net.JoinHostPort(k.ip, fmt.Sprint(port.ContainerPort)) + get.Path)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("it is not ready: %s", resp.Status)
		}
		return nil
	}
	return fmt.Errorf("no port is called %s", get.Port)
}

// files are all files below a directory of the host.
func (k *kubelet) files(t *testing.T, path string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(filepath.Join(k.dir, path), func(name string, d os.DirEntry, err error) error {
		if err == nil && name != filepath.Join(k.dir, path) {
			names = append(names, strings.TrimPrefix(name, filepath.Join(k.dir, path)+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
