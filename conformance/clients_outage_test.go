//go:build clients

package conformance

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weir-registry/weir/authz/basic"
)

// smallLayout makes an index of two images as an OCI layout, and gives the digest of the
// index. flat is the same, as crane takes it: the layout's own index.
func smallLayout(t *testing.T, dir, flat string) string {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		layer, err := random.Layer(5000, types.OCILayer)
		if err != nil {
			t.Fatal(err)
		}
		image, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), layer)
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	d, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	root := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add:        index,
		Descriptor: v1.Descriptor{Annotations: map[string]string{"org.opencontainers.image.ref.name": "1", "io.containerd.image.name": "small.test/app:1"}},
	})
	for dir, index := range map[string]v1.ImageIndex{dir: root, flat: index} {
		if _, err := layout.Write(dir, index); err != nil {
			t.Fatal(err)
		}
	}
	return d.String()
}

// TestClientsPushInOutage: the upstream of a repository that takes pushes is away. Every
// client looks first whether what it pushes is there, some before they say who they are;
// each pushes all the same, and all of it is there. Who has no right to push, and pulls, is
// told of the outage.
func TestClientsPushInOutage(t *testing.T) {
	dir := workDir(t)
	at := func(elem ...string) string { return filepath.Join(append([]string{dir}, elem...)...) }
	env := []string{"HOME=" + dir + "/home", "DOCKER_CONFIG=" + at("docker"), "NO_PROXY=127.0.0.0/8", "no_proxy=127.0.0.0/8"}
	policy := write(t, at("policy.json"), `{"default": [{"type": "insecureAcceptAnything"}]}`)
	crane, oras := tool(t, "crane"), tool(t, "oras")
	digest := smallLayout(t, at("small"), at("flat"))
	const password = "correct horse"
	w := startWeir(t, at("data"), fmt.Sprintf(`
mirror:
  well_known: false
  default: docker.io
  upstreams: [{name: docker.io, writable: true, endpoints: [{url: "http://%s"}]}]
authz:
  basic: {users: [{name: ci, hash: %q}]}
  policy: {default: deny, allow: ["request.action == 'pull'", "request.action == 'push' && identity.id == 'basic:ci'"]}
`, freeAddr(t), basic.NewHash(password).Text()))
	write(t, at("docker", "config.json"), fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, w.addr, base64.StdEncoding.EncodeToString([]byte("ci:"+password))))
	run(t, env, "tar", "-C", at("small"), "-cf", at("small.tar"), ".")
	current := startContainerd(t, at("new"), env)
	current.do(t, "images", "import", "--no-unpack", "--all-platforms", at("small.tar"))

	for _, repo := range []string{"docker.io/their/", "our/"} { // a hybrid's, and one that becomes local
		target := func(client string) string { return w.addr + "/" + repo + client + ":1" }
		for client, push := range map[string]func(t *testing.T){
			"containerd": func(t *testing.T) {
				current.do(t, "images", "tag", "small.test/app:1", target("containerd"))
				current.do(t, "images", "push", "--plain-http", "--user", "ci:"+password, target("containerd"))
			},
			"skopeo": func(t *testing.T) {
				run(t, env, "skopeo", "--policy", policy, "copy", "--all", "--dest-tls-verify=false", "--dest-creds", "ci:"+password,
					"oci:"+at("small")+":1", "docker://"+target("skopeo"))
			},
			"crane": func(t *testing.T) { run(t, env, crane, "push", "--insecure", "--index", at("flat"), target("crane")) },
			"oras": func(t *testing.T) {
				run(t, env, oras, "copy", "--from-oci-layout", "--to-plain-http", at("small")+":1", target("oras"))
			},
		} {
			t.Run(repo+client, func(t *testing.T) {
				push(t)
				d := get(t, target(client))
				if client != "skopeo" && client != "crane" && d.Digest.String() != digest { // these write the index anew
					t.Errorf("%s was pushed, and is %s", digest, d.Digest)
				}
				checkPushed(t, target(client), d.Digest.String())
			})
		}
	}
}
