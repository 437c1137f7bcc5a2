//go:build apiserver

package helm

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-registry/weir/deploy/helm/charttest"
)

// TestAPIServer has a real API server take all that each scenario renders, as
// `kubectl apply --server-side --dry-run=server` would send it.
func TestAPIServer(t *testing.T) {
	s := startAPIServer(t)
	for _, file := range charttest.CustomResources(t) {
		s.define(t, file)
	}
	// Pod security is enforced on pods, and only warned of for what makes them.
	for name, level := range map[string]string{"weir": "privileged", "restricted": "restricted", "privileged": "privileged"} {
		s.must(t, "/api/v1/namespaces/"+name, "", fmt.Sprintf(
			`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": %q, "labels": {"pod-security.kubernetes.io/enforce": %q}}}`, name, level))
	}
	for _, c := range scenarios(t) {
		t.Run(c.name, func(t *testing.T) {
			objects := c.objects(t)
			for _, o := range objects {
				if err := s.dryRun(t, o); err != nil {
					t.Errorf("%s: %v", o, err)
				}
			}
			t.Logf("%d objects are accepted", len(objects))
		})
	}
	t.Run("it can refuse", func(t *testing.T) {
		o := charttest.Find(t, byName(t, "node").objects(t), "DaemonSet", "")
		for _, change := range [][2]string{
			{"containerPort: 5001", "containerPort: 99999"},
			{"hostPath:", "hostPth:"},
			{"name: certs, mountPath", "name: certificates, mountPath"},
			{"operator: Exists", "operator: Exist"},
		} {
			wrong := o
			if wrong.Text = strings.Replace(o.Text, change[0], change[1], 1); wrong.Text == o.Text {
				t.Errorf("there is no %q", change[0])
			}
			if err := s.dryRun(t, wrong); err == nil {
				t.Errorf("with %q it is accepted", change[1])
			}
		}
	})
	t.Run("pod security", func(t *testing.T) {
		for preset, restricted := range map[string]bool{"central": true, "sidecar": true, "central-bucket": true, "node": false} {
			for _, o := range byName(t, preset).objects(t) {
				if _, ok := o.Pod(t); !ok {
					continue
				}
				if err := s.dryRunPod(t, o, "privileged"); err != nil {
					t.Errorf("%s: %v", o, err)
				}
				if err := s.dryRunPod(t, o, "restricted"); (err == nil) != restricted {
					t.Errorf("%s, in a restricted namespace: %v", o, err)
				}
			}
		}
	})
}

// define creates a kind, and waits until there is one.
func (s *apiServer) define(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range charttest.Parse(t, string(text)) {
		group, plural := o.Metadata.Name[strings.Index(o.Metadata.Name, ".")+1:], o.Metadata.Name[:strings.Index(o.Metadata.Name, ".")]
		s.must(t, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"+o.Metadata.Name, "", o.Text)
		s.ready(t, func() error {
			_, err := s.do(http.MethodGet, "/apis/"+group+"/v1/namespaces/default/"+plural, "", "")
			return err
		})
	}
}

// dryRun has the server do all but store the object.
func (s *apiServer) dryRun(t *testing.T, o charttest.Object) error {
	t.Helper()
	_, err := s.do(http.MethodPatch, s.path(t, o), "?dryRun=All&fieldManager=test&fieldValidation=Strict", o.Text)
	return err
}

// dryRunPod has the server do all but store a pod of the object's.
func (s *apiServer) dryRunPod(t *testing.T, o charttest.Object, namespace string) error {
	t.Helper()
	text, err := s.do(http.MethodPatch, s.path(t, o), "?dryRun=All&fieldManager=test", o.Text)
	if err != nil {
		return err
	}
	type template struct{ Spec json.RawMessage }
	var made struct {
		Spec struct {
			Template    template
			JobTemplate struct{ Spec struct{ Template template } }
		}
	}
	if err := json.Unmarshal(text, &made); err != nil {
		return err
	}
	spec := made.Spec.Template.Spec
	if o.Kind == "CronJob" {
		spec = made.Spec.JobTemplate.Spec.Template.Spec
	}
	// The claim of a StatefulSet's pod is added by who makes the pod.
	var fields map[string]any
	if err := json.Unmarshal(spec, &fields); err != nil {
		return err
	}
	if o.Kind == "StatefulSet" && strings.Contains(o.Text, "volumeClaimTemplates:") {
		volumes, _ := fields["volumes"].([]any)
		fields["volumes"] = append(volumes, map[string]any{"name": "data", "persistentVolumeClaim": map[string]string{"claimName": "data"}})
	}
	pod, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]string{"name": "p", "namespace": namespace}, "spec": fields,
	})
	if err != nil {
		return err
	}
	_, err = s.do(http.MethodPatch, "/api/v1/namespaces/"+namespace+"/pods/p", "?dryRun=All&fieldManager=test&fieldValidation=Strict", string(pod))
	return err
}

// path is where the server has the object.
func (s *apiServer) path(t *testing.T, o charttest.Object) string {
	t.Helper()
	base := "/apis/" + o.APIVersion
	if o.APIVersion == "v1" {
		base = "/api/v1"
	}
	text, err := s.do(http.MethodGet, base, "", "")
	if err != nil {
		t.Fatal(err)
	}
	var known struct{ Resources []struct{ Name, Kind string } }
	if err := json.Unmarshal(text, &known); err != nil {
		t.Fatal(err)
	}
	for _, r := range known.Resources {
		if r.Kind == o.Kind && !strings.Contains(r.Name, "/") {
			return base + "/namespaces/" + o.Metadata.Namespace + "/" + r.Name + "/" + o.Metadata.Name
		}
	}
	t.Fatalf("the server knows no %s %s", o.APIVersion, o.Kind)
	return ""
}

// must applies an object in earnest.
func (s *apiServer) must(t *testing.T, path, query, text string) {
	t.Helper()
	if query == "" {
		query = "?fieldManager=test&force=true"
	}
	if _, err := s.do(http.MethodPatch, path, query, text); err != nil {
		t.Fatal(err)
	}
}

// do sends a request; PATCH applies a text.
func (s *apiServer) do(method, path, query, text string) ([]byte, error) {
	req, err := http.NewRequest(method, s.url+path+query, strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+apiToken)
	if text != "" {
		req.Header.Set("Content-Type", "application/apply-patch+yaml")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		var status struct{ Message string }
		_ = json.Unmarshal(body, &status) // what is no status has no message
		return nil, fmt.Errorf("%s %s: %s %s", method, path, resp.Status, status.Message)
	}
	return body, nil
}

// logOf shows the end of what a server said, when the test has failed.
func logOf(t *testing.T, file string) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		text, err := os.ReadFile(file)
		t.Logf("%s: %s %v", filepath.Base(file), text[max(0, len(text)-4000):], err)
	})
}
