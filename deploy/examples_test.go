//go:build deploy

package deploy

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// A setUp is what a configuration needs to be there, and what it is good for.
type setUp struct {
	// begin makes what it names: hosts, files, servers.
	begin func(t *testing.T, hosts map[string]http.Handler)
	// use is what people do with it who have it.
	use func(t *testing.T, n *internet)
	// at is where anybody's push is refused, a repository.
	at string
}

// remedy is how the log begins to say what would allow a push.
const remedy = `"remedy":"authz`

// TestExamples starts each configuration that ships, as it is, beside what it names, and has it
// do what it is for. Everybody's push is refused, with the line that would allow it in the log.
func TestExamples(t *testing.T) {
	const local = "127.0.0.1:5000"
	setUps := map[string]setUp{
		"examples/docker-hub.yaml": hubSetUp(local),
		"examples/ghcr.yaml":       ghcrSetUp(),
		"examples/ci.yaml":         ciSetUp(),
		"examples/team.yaml":       teamSetUp(),
		"examples/central.yaml":    centralSetUp(local),
		"examples/sidecar.yaml":    sidecarSetUp(local),
		"debian/weir.yaml":         plainSetUp(local),
		"compose/weir.yaml":        plainSetUp(local),
	}
	shown, err := filepath.Glob("examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range shown {
		if _, ok := setUps[file]; !ok && file != "examples/node.yaml" { // which central.yaml's set-up starts
			t.Errorf("%s: nobody starts it", file)
		}
	}
	for file, s := range setUps {
		t.Run(file, func(t *testing.T) {
			hosts := map[string]http.Handler{}
			for _, dir := range []string{"/etc/weir", "/var/lib/weir", "/var/lib/weir-metadata"} {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
			s.begin(t, hosts)
			n := newInternet(t, hosts)
			shown := mtlstest.Server()
			shown.DNSNames = []string{"weir.corp.example"}
			pair := n.authority.Issue(t, shown)
			write(t, "/etc/weir/tls.crt", string(pair.CertificatePEM()))
			write(t, "/etc/weir/tls.key", string(pair.KeyPEM(t)))

			env := append(n.env(), "S3_ACCESS_KEY_ID="+s3test.AccessKey)
			if said := run(t, env, binary(t), "check", "--config", file); strings.Contains(said, "warning") {
				t.Errorf("weir check: %s", said)
			}
			args := []string{binary(t), "serve", "--config", file}
			if strings.HasPrefix(file, "compose/") {
				args = append(args, "--data", "/var/lib/weir") // in place of the image's volume
			}
			w := serve(t, "weir", env, args...)
			w.until(ready("http://127.0.0.1:5001/readyz"))
			s.use(t, n)

			n.refused(s.at)
			w.until(w.says(remedy))
			w.stop()
		})
	}
}

// htpasswd gives people passwords, which are their names.
func htpasswd(t *testing.T, users ...string) {
	t.Helper()
	var lines strings.Builder
	for _, user := range users {
		cmd := exec.Command(binary(t), "hash-password", "--user", user)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(user+"\n"), &lines, os.Stderr
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	}
	write(t, "/etc/weir/htpasswd", lines.String())
}

// pulls wants the image to be had, and gives its digest.
func (n *internet) pulls(image, user string) string {
	n.t.Helper()
	digest, err := n.pull(image, n.options(user, user)...)
	if err != nil {
		n.t.Errorf("pull of %s as %q: %v", image, user, err)
	}
	return digest.String()
}

// pushes wants a push to end as may says.
func (n *internet) pushes(image, user, password string, may bool) {
	n.t.Helper()
	if err := n.push(image, n.options(user, password)...); (err == nil) != may {
		n.t.Errorf("push of %s as %q: %v", image, user, err)
	}
}

// refused wants anybody's push to a repository to be refused.
func (n *internet) refused(repository string) {
	n.t.Helper()
	host, path, _ := strings.Cut(repository, "/")
	scheme := "https"
	if strings.HasPrefix(host, "127.") {
		scheme = "http"
	}
	resp, err := (&http.Client{Transport: n.client()}).Post(scheme+"://"+host+"/v2/"+path+"/blobs/uploads/", "", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		n.t.Errorf("anybody's push to %s is answered %s: %s", repository, resp.Status, said)
	}
}

func plainSetUp(at string) setUp {
	return setUp{
		at: at + "/team/app",
		begin: func(t *testing.T, hosts map[string]http.Handler) {
			hosts["registry-1.docker.io"], _ = someRegistry(t, "library/alpine:3.20")
			hosts["quay.io"], _ = someRegistry(t, "org/app:v1")
		},
		use: func(_ *testing.T, n *internet) {
			n.pulls(at+"/library/alpine:3.20", "")
			n.pulls(at+"/quay.io/org/app:v1", "")
		},
	}
}

func hubSetUp(at string) setUp {
	return setUp{
		at: at + "/team/app",
		begin: func(t *testing.T, hosts map[string]http.Handler) {
			h, _ := someRegistry(t, "library/alpine:3.20")
			hosts["registry-1.docker.io"] = closed(h, "corp", "secret")
			write(t, "/etc/weir/docker-hub-token", "secret\n")
		},
		use: func(_ *testing.T, n *internet) { n.pulls(at+"/library/alpine:3.20", "") },
	}
}

func ghcrSetUp() setUp {
	const at = "weir.corp.example:5000"
	return setUp{
		at: at + "/team/app",
		begin: func(t *testing.T, hosts map[string]http.Handler) {
			h, _ := someRegistry(t, "acme/app:v1", "other/app:v1")
			hosts["ghcr.io"] = closed(h, "acme-bot", "secret")
			write(t, "/etc/weir/ghcr-token", "secret\n")
			htpasswd(t, "ann")
		},
		use: func(t *testing.T, n *internet) {
			n.pulls(at+"/ghcr.io/acme/app:v1", "ann")
			for image, user := range map[string]string{"acme/app:v1": "", "other/app:v1": "ann"} {
				if _, err := n.pull(at+"/ghcr.io/"+image, n.options(user, user)...); err == nil {
					t.Errorf("%q may pull %s", user, image)
				}
			}
		},
	}
}

func ciSetUp() setUp {
	const at, github = "weir.corp.example:5000", "https://token.actions.githubusercontent.com"
	var provider issuer
	return setUp{
		at: at + "/acme/app",
		begin: func(t *testing.T, hosts map[string]http.Handler) {
			provider = newIssuer(t, github, "https://"+at)
			hosts["token.actions.githubusercontent.com"] = provider
		},
		use: func(_ *testing.T, n *internet) {
			app, branch := provider.sign("acme/app", "refs/heads/main"), provider.sign("acme/app", "refs/heads/else")
			n.pushes(at+"/acme/app:latest", "ci", app, true)
			n.pushes(at+"/acme/app/worker:v1.0.0", "ci", app, true)
			n.pushes(at+"/acme/app/worker:v1.0.0", "ci", app, false)
			n.pushes(at+"/acme/app:test", "ci", branch, true)
			n.pushes(at+"/acme/app:latest", "ci", branch, false)
			n.pushes(at+"/acme/application:v1", "ci", app, false)
			n.pushes(at+"/acme/app:v2", "ci", provider.sign("eve/app", "refs/heads/main"), false)
			n.pulls(at+"/acme/app:latest", "")
		},
	}
}

func teamSetUp() setUp {
	const at = "weir.corp.example"
	var bucket *s3test.Server
	return setUp{
		at: at + "/else/app",
		begin: func(t *testing.T, hosts map[string]http.Handler) {
			bucket = s3test.Start(t)
			if err := os.Mkdir(filepath.Join(bucket.Dir, "weir"), 0o700); err != nil {
				t.Fatal(err)
			}
			hosts["s3.corp.example"] = proxy(t, bucket.URL)
			hosts[at] = proxy(t, "http://127.0.0.1:5000")
			hosts["registry-1.docker.io"], _ = someRegistry(t, "library/alpine:3.20")
			write(t, "/etc/weir/s3-secret", s3test.SecretKey+"\n")
			write(t, "/etc/weir/redis-url", coordtest.Start(t).URL()+"\n")
			htpasswd(t, "ann", "ci", "bob")
		},
		use: func(t *testing.T, n *internet) {
			n.pushes(at+"/team/app:v1", "ci", "ci", true)
			n.pushes(at+"/team/app:v1", "ci", "ci", false)
			n.pushes(at+"/team/app:latest", "bob", "bob", false)
			n.pushes(at+"/secret/app:latest", "ann", "ann", true)
			n.pushes(at+"/secret/app:latest", "bob", "bob", false)
			n.pulls(at+"/team/app:v1", "")
			n.pulls(at+"/library/alpine:3.20", "")
			if len(bucket.Objects(t, "weir", "")) == 0 {
				t.Error("nothing is in the bucket")
			}
		},
	}
}

// centralSetUp is that of central.yaml, with a node of node.yaml on a port of its own beside it.
func centralSetUp(at string) setUp {
	const node = "127.0.0.1:5100"
	return setUp{
		at: at + "/team/app",
		begin: func(t *testing.T, hosts map[string]http.Handler) {
			hosts["weir.corp.example"] = proxy(t, "http://"+at)
			hosts["registry-1.docker.io"], _ = someRegistry(t, "library/alpine:3.20", "library/debian:12")
			hosts["mirror.gcr.io"], _ = someRegistry(t)
			write(t, "/etc/weir/corp-password", "secret\n")
		},
		use: func(t *testing.T, n *internet) {
			w := serve(t, "node", append(n.env(), "WEIR_ADMIN=127.0.0.1:5101"), binary(t), "serve", "--config", "examples/node.yaml", "--listen", node, "--data", t.TempDir())
			w.until(ready("http://127.0.0.1:5101/readyz"))
			n.pulls(node+"/docker.io/library/alpine:3.20", "")
			if n.count("weir.corp.example") == 0 {
				t.Error("the node has not asked the central one")
			}
			before := n.count("registry-1.docker.io")
			n.pulls(node+"/docker.io/library/alpine:3.20", "")
			if after := n.count("registry-1.docker.io"); after != before {
				t.Errorf("what both have was asked for %d times", after-before)
			}
			n.leave("weir.corp.example")
			n.pulls(node+"/docker.io/library/debian:12", "")
			n.pushes(node+"/team/app:v1", "", "", false)
			w.until(w.says(remedy))
			w.stop()
		},
	}
}

func sidecarSetUp(at string) setUp {
	var harbor http.Handler
	return setUp{
		at: at + "/team/app",
		begin: func(t *testing.T, hosts map[string]http.Handler) {
			harbor, _ = someRegistry(t)
			hosts["harbor.corp.example"] = closed(harbor, "robot$weir", "secret")
			hosts["registry-1.docker.io"], _ = someRegistry(t, "library/alpine:3.20")
			write(t, "/etc/weir/harbor-robot", "secret\n")
		},
		use: func(_ *testing.T, n *internet) {
			digest := n.pulls(at+"/library/alpine:3.20", "")
			ref, err := name.ParseReference("harbor.test/mirror/docker.io/library/alpine@" + digest)
			if err != nil {
				n.t.Fatal(err)
			}
			until(n.t, "Harbor", nil, func() error { // it is sent there behind the answer
				_, err := remote.Image(ref, remote.WithTransport(within{harbor}))
				return err
			})
		},
	}
}
