package charttest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// Object is one that a chart renders.
type Object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name        string            `yaml:"name"`
		Namespace   string            `yaml:"namespace"`
		Labels      map[string]string `yaml:"labels"`
		Annotations map[string]string `yaml:"annotations"`
	} `yaml:"metadata"`
	Data       map[string]string `yaml:"data"`       // of a ConfigMap
	StringData map[string]string `yaml:"stringData"` // of a Secret

	// Text is the whole object, as YAML.
	Text string `yaml:"-"`
}

// Parse reads the objects of a stream of YAML.
func Parse(t testing.TB, text string) []Object {
	t.Helper()
	var objects []Object
	for document := range strings.SplitSeq("\n"+text, "\n---\n") {
		o := Object{Text: document}
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			t.Fatalf("%v:\n%s", err, document)
		}
		if o.Kind != "" {
			objects = append(objects, o)
		}
	}
	return objects
}

// Find is the one object of that kind whose name ends so.
func Find(t testing.TB, objects []Object, kind, end string) Object {
	t.Helper()
	i := slices.IndexFunc(objects, func(o Object) bool { return o.Kind == kind && strings.HasSuffix(o.Metadata.Name, end) })
	if i < 0 {
		t.Fatalf("there is no %s ...%s", kind, end)
	}
	return objects[i]
}

// Pod is what a pod is made from.
type Pod struct {
	Metadata struct {
		Labels map[string]string `yaml:"labels"`
	} `yaml:"metadata"`
	Spec PodSpec `yaml:"spec"`
}

// PodSpec says what runs in a pod.
type PodSpec struct {
	HostNetwork                   bool            `yaml:"hostNetwork"`
	DNSPolicy                     string          `yaml:"dnsPolicy"`
	PriorityClassName             string          `yaml:"priorityClassName"`
	AutomountServiceAccountToken  *bool           `yaml:"automountServiceAccountToken"`
	Tolerations                   []any           `yaml:"tolerations"`
	SecurityContext               SecurityContext `yaml:"securityContext"`
	InitContainers                []Container     `yaml:"initContainers"`
	Containers                    []Container     `yaml:"containers"`
	Volumes                       []Volume        `yaml:"volumes"`
	TerminationGracePeriodSeconds int             `yaml:"terminationGracePeriodSeconds"`
}

// Container is one of a pod.
type Container struct {
	Name    string   `yaml:"name"`
	Image   string   `yaml:"image"`
	Command []string `yaml:"command"`
	Args    []string `yaml:"args"`
	Env     []struct {
		Name      string `yaml:"name"`
		Value     string `yaml:"value"`
		ValueFrom struct {
			FieldRef struct {
				FieldPath string `yaml:"fieldPath"`
			} `yaml:"fieldRef"`
		} `yaml:"valueFrom"`
	} `yaml:"env"`
	Ports []struct {
		Name          string `yaml:"name"`
		ContainerPort int    `yaml:"containerPort"`
		HostPort      int    `yaml:"hostPort"`
		HostIP        string `yaml:"hostIP"`
	} `yaml:"ports"`
	RestartPolicy   string          `yaml:"restartPolicy"`
	ReadinessProbe  *Probe          `yaml:"readinessProbe"`
	LivenessProbe   *Probe          `yaml:"livenessProbe"`
	SecurityContext SecurityContext `yaml:"securityContext"`
	Resources       struct {
		Requests map[string]any `yaml:"requests"`
		Limits   map[string]any `yaml:"limits"`
	} `yaml:"resources"`
	VolumeMounts []struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

// Probe is a question of the kubelet's.
type Probe struct {
	HTTPGet struct {
		Path string `yaml:"path"`
		Port string `yaml:"port"`
	} `yaml:"httpGet"`
}

// SecurityContext says what a container may.
type SecurityContext struct {
	RunAsNonRoot             *bool `yaml:"runAsNonRoot"`
	RunAsUser                *int  `yaml:"runAsUser"`
	RunAsGroup               *int  `yaml:"runAsGroup"`
	FSGroup                  *int  `yaml:"fsGroup"`
	AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
	Privileged               bool  `yaml:"privileged"`
	ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
	Capabilities             struct {
		Add  []string `yaml:"add"`
		Drop []string `yaml:"drop"`
	} `yaml:"capabilities"`
	SeccompProfile struct {
		Type string `yaml:"type"`
	} `yaml:"seccompProfile"`
}

// Volume is where files of a pod are.
type Volume struct {
	Name      string `yaml:"name"`
	Projected *struct {
		Sources []struct {
			ConfigMap *struct {
				Name string `yaml:"name"`
			} `yaml:"configMap"`
			Secret *struct {
				Name string `yaml:"name"`
			} `yaml:"secret"`
		} `yaml:"sources"`
	} `yaml:"projected"`
	EmptyDir *struct {
		SizeLimit string `yaml:"sizeLimit"`
	} `yaml:"emptyDir"`
	HostPath *struct {
		Path string `yaml:"path"`
		Type string `yaml:"type"`
	} `yaml:"hostPath"`
}

// Pod is the template of the pods that o makes; false: it makes none.
func (o Object) Pod(t testing.TB) (pod Pod, ok bool) {
	t.Helper()
	var workload struct {
		Spec struct {
			Template    Pod `yaml:"template"`
			JobTemplate struct {
				Spec struct {
					Template Pod `yaml:"template"`
				} `yaml:"spec"`
			} `yaml:"jobTemplate"`
		} `yaml:"spec"`
	}
	switch o.Kind {
	case "DaemonSet", "Deployment", "StatefulSet", "CronJob":
	default:
		return Pod{}, false
	}
	if err := yaml.Unmarshal([]byte(o.Text), &workload); err != nil {
		t.Fatalf("%s %s: %v", o.Kind, o.Metadata.Name, err)
	}
	if o.Kind == "CronJob" {
		return workload.Spec.JobTemplate.Spec.Template, true
	}
	return workload.Spec.Template, true
}

// Container is the one of that name.
func (p Pod) Container(t testing.TB, name string) Container {
	t.Helper()
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("the pod has no container %s", name)
	return Container{}
}

// Environ is the environment of the container in a pod with that address, as os.Environ
// gives one.
func (c Container) Environ(t testing.TB, ip string) []string {
	t.Helper()
	known := map[string]string{}
	var environ []string
	for _, e := range c.Env {
		value := e.Value
		switch e.ValueFrom.FieldRef.FieldPath {
		case "":
		case "status.podIP":
			value = ip
		default:
			t.Fatalf("%s: nobody knows %s", e.Name, e.ValueFrom.FieldRef.FieldPath)
		}
		for _, name := range slices.Sorted(maps.Keys(known)) {
			value = strings.ReplaceAll(value, "$("+name+")", known[name])
		}
		known[e.Name] = value
		environ = append(environ, e.Name+"="+value)
	}
	return environ
}

// Files are what a projected volume holds, by name, given all objects of its release.
func (v Volume) Files(t testing.TB, objects []Object) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, source := range v.Projected.Sources {
		find := func(kind, name string) Object {
			t.Helper()
			for _, o := range objects {
				if o.Kind == kind && o.Metadata.Name == name {
					return o
				}
			}
			t.Fatalf("volume %s: there is no %s %s", v.Name, kind, name)
			return Object{}
		}
		if source.ConfigMap != nil {
			maps.Copy(files, find("ConfigMap", source.ConfigMap.Name).Data)
		}
		if source.Secret != nil {
			maps.Copy(files, find("Secret", source.Secret.Name).StringData)
		}
	}
	return files
}

// String names the object.
func (o Object) String() string { return fmt.Sprintf("%s %s", o.Kind, o.Metadata.Name) }
