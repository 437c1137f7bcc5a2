//go:build deploy

package deploy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
	"github.com/weir-registry/weir/deploy/helm/charttest"
)

// TestIngress puts Debian's nginx before weir, set as ingress-nginx sets it: by default, which no layer passes
// that is larger than a mebibyte, and with the annotations that the chart's guide has people write.
func TestIngress(t *testing.T) {
	annotations := charttest.Find(t, charttest.Render(t, "r", "-f", "helm/testdata/central-bucket.yaml"), "Ingress", "").Metadata.Annotations
	guide := read(t, "helm/weir/README.md")
	set := map[string]string{"client_max_body_size": "1m", "proxy_request_buffering": "on"}
	byDefault := nginx{t: t, set: set}
	annotated := nginx{t: t, set: map[string]string{}}
	for directive, annotation := range map[string]string{"client_max_body_size": "proxy-body-size", "proxy_request_buffering": "proxy-request-buffering"} {
		if annotated.set[directive] = annotations["nginx.ingress.kubernetes.io/"+annotation]; annotated.set[directive] == "" || !strings.Contains(guide, annotation+`: "`+annotated.set[directive]+`"`) {
			t.Fatalf("%s is %q, and the guide says something else", annotation, annotated.set[directive])
		}
	}

	n := newInternet(t, nil)
	store := t.TempDir()
	config := write(t, filepath.Join(t.TempDir(), "weir.yaml"), fmt.Sprintf("server: {listen: 127.0.0.1:5000, trusted_proxies: [127.0.0.1/32]}\nadmin: {listen: 127.0.0.1:5001}\n"+
		"store: {blobs: {filesystem: {root: %q}}}\nmirror: {well_known: false}\nauthz: {policy: {default: allow}}\n", store))
	w := serve(t, "weir", nil, binary(t), "serve", "--config", config)
	w.until(ready("http://127.0.0.1:5001/readyz"))

	image, err := random.Image(4<<20, 2)
	if err != nil {
		t.Fatal(err)
	}
	push := func(at string) error {
		ref, err := name.ParseReference(at + "/team/app:v1")
		if err != nil {
			t.Fatal(err)
		}
		return remote.Write(ref, image, n.options("", "")...)
	}
	if err := push(byDefault.start(n, "8443")); err == nil || !strings.Contains(err.Error(), "413") {
		t.Errorf("without the annotations: %v", err)
	}
	at := annotated.start(n, "9443")
	if err := push(at); err != nil {
		t.Fatalf("with the annotations: %v", err)
	}
	want, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got := n.pulls(at+"/team/app:v1", ""); got != want.String() {
		t.Errorf("pulled is %s, pushed %s", got, want)
	}

	// What is sent arrives while the rest of it is still to come.
	client := &http.Client{Transport: n.client()}
	begun, err := client.Post("https://"+at+"/v2/team/app/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = begun.Body.Close()
	location, err := begun.Location()
	if err != nil || location.Scheme != "https" || location.Host != at {
		t.Fatalf("the upload is at %v, %v", location, err)
	}
	before := size(t, store)
	body, sent := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, location.String(), body)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusAccepted {
				err = errors.New(resp.Status)
			}
		}
		ended <- err
	}()
	if _, err := sent.Write(make([]byte, 2<<20)); err != nil {
		t.Fatal(err)
	}
	w.until(func() error {
		if has := size(t, store) - before; has < 1<<20 {
			return fmt.Errorf("of 2 MiB that were sent weir has %d bytes", has)
		}
		return nil
	})
	_ = sent.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// size is that of all files below a directory.
func size(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				bytes += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) { // it has its name by now
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// nginx stands before weir, with TLS, as ingress-nginx sets it but for some directives.
type nginx struct {
	t   *testing.T
	set map[string]string
}

// start gives what clients call it.
func (x nginx) start(n *internet, port string) string {
	x.t.Helper()
	dir := x.t.TempDir()
	shown := mtlstest.Server()
	shown.DNSNames = []string{"weir.corp.example"}
	pair := n.authority.Issue(x.t, shown)
	write(x.t, dir+"/tls.crt", string(pair.CertificatePEM()))
	write(x.t, dir+"/tls.key", string(pair.KeyPEM(x.t)))
	var set strings.Builder
	for directive, value := range x.set {
		fmt.Fprintf(&set, "      %s %s;\n", directive, value)
	}
	config := write(x.t, dir+"/nginx.conf", fmt.Sprintf(`daemon off;
user root;
pid %[1]s/pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  server {
    listen 127.0.0.1:%[2]s ssl;
    ssl_certificate %[1]s/tls.crt;
    ssl_certificate_key %[1]s/tls.key;
    location / {
      proxy_pass http://127.0.0.1:5000;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
%[3]s    }
  }
}
`, dir, port, set.String()))
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // where Debian keeps it, and only root looks
	}
	at := "weir.corp.example:" + port
	s := serve(x.t, "nginx", nil, program, "-c", config, "-e", "stderr")
	s.until(func() error {
		resp, err := (&http.Client{Transport: n.client()}).Get("https://" + at + "/v2/")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	})
	return at
}
