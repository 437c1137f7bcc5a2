//go:build clients

package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// image is the name by which users pull. elsewhere is the same image in another
// registry, as far as weir can know.
const (
	image     = "docker.io/library/debian:bookworm"
	elsewhere = "registry.test/library/debian:bookworm"
)

// lookInside runs in the pulled image and shows that every layer arrived and was
// unpacked: the programs of the base, and what the top layer added and removed.
var lookInside = []string{"sh", "-c", "cat /" + addedFile + "; test ! -e /" + removedFile + " || echo not removed; dpkg --print-architecture"}

func checkInside(t *testing.T, said string) {
	t.Helper()
	if want := addedText + "amd64\n"; said != want {
		t.Errorf("inside the image: %q, want %q", said, want)
	}
}

// TestClients is one day of a weir: every client pulls a Debian through it, weir
// is restarted, every client that pushes pushes, the upstream goes away, and everybody
// pulls once more, and again after another restart.
func TestClients(t *testing.T) {
	dir := workDir(t)
	env := []string{"HOME=" + dir + "/home", "DOCKER_CONFIG=" + dir + "/home/.docker", "NO_PROXY=127.0.0.0/8", "no_proxy=127.0.0.0/8"}
	at := func(elem ...string) string { return filepath.Join(append([]string{dir}, elem...)...) }
	write(t, at("home", ".docker", "config.json"), "{}") // not this machine's credentials
	policy := write(t, at("policy.json"), `{"default": [{"type": "insecureAcceptAnything"}]}`)
	skopeo := func(t *testing.T, args ...string) string {
		return run(t, env, append([]string{"skopeo", "--policy", policy}, args...)...)
	}
	crane, oras := tool(t, "crane"), tool(t, "oras")

	up := startUpstream(t, dir)
	debianLayout(t, at("debian"))
	skopeo(t, "copy", "--all", "--dest-tls-verify=false", "oci:"+at("debian")+":bookworm", "docker://"+up.addr+"/library/debian:bookworm")
	// Debian's skopeo writes every index anew: what it pushed is the original here.
	digest := get(t, up.addr+"/library/debian:bookworm").Digest.String()
	before := len(up.requests(t, 0))

	config := fmt.Sprintf(`
mirror:
  well_known: false
  upstreams:
    - name: docker.io
      endpoints: [{url: "http://%s"}]
      tags: {ttl: 1ms}   # the upstream is asked at every pull
    - name: registry.test
      endpoints: [{url: "http://%s"}]
`, up.addr, up.addr)
	w := startWeir(t, at("data"), config)
	old := startDebianContainerd(t, at("old"), env)
	current := startContainerd(t, at("new"), env)
	clientConfig(t, w, old.certs, "containerd", "--version", "1.6.20")
	clientConfig(t, w, current.certs, "containerd", "--version", "2.4.2", "--upstream", "registry.test")
	clientConfig(t, w, at("podman"), "podman")
	registries := at("podman", "registries.conf")
	pod := newPodman(t, at("podman"), registries, env)

	// No default upstream is set, and the paths that containerd asks for do not say
	// which one is meant: only its ?ns= can lead there.
	t.Run("pull/containerd-1.6", func(t *testing.T) {
		old.pull(t, image, digest)
		checkColdPull(t, up.requests(t, before), at("debian"))
	})
	t.Run("pull/containerd-2.4", func(t *testing.T) {
		current.pull(t, image, digest)
		current.remove(t, image)
		current.pull(t, image, digest, "--local")
		current.remove(t, image)
		current.pull(t, elsewhere, digest)
		current.remove(t, elsewhere)
	})
	t.Run("pull/podman", func(t *testing.T) { pod.pull(t, image, digest) })
	t.Run("pull/skopeo", func(t *testing.T) {
		skopeo(t, "--registries-conf", registries, "copy", "--all", "docker://"+image, "oci:"+at("by-skopeo")+":bookworm")
		checkLayout(t, at("by-skopeo"), digest)
	})
	t.Run("pull/crane", func(t *testing.T) {
		run(t, env, crane, "pull", "--insecure", "--format", "oci", w.addr+"/"+image, at("by-crane"))
		checkLayout(t, at("by-crane"), digest)
	})
	t.Run("pull/oras", func(t *testing.T) {
		run(t, env, oras, "copy", "--from-plain-http", "--to-oci-layout", w.addr+"/"+image, at("by-oras")+":bookworm")
		checkLayout(t, at("by-oras"), digest)
	})

	t.Run("each byte was fetched once", func(t *testing.T) {
		checkFetchedOnce(t, up.requests(t, before), at("debian"))
	})
	pulled := len(up.requests(t, 0))
	t.Run("pull/together", func(t *testing.T) {
		w := startWeir(t, at("data-together"), config)
		clientConfig(t, w, at("together.d"), "containerd", "--version", "2.4.2")
		t.Run("all", func(t *testing.T) { // ends when all of them have ended
			t.Run("containerd", func(t *testing.T) {
				t.Parallel()
				current.do(t, "images", "pull", "--hosts-dir", at("together.d"), image)
			})
			t.Run("skopeo", func(t *testing.T) {
				t.Parallel()
				skopeo(t, "copy", "--all", "--src-tls-verify=false", "docker://"+w.addr+"/"+image, "oci:"+at("together-skopeo")+":bookworm")
				checkLayout(t, at("together-skopeo"), digest)
			})
			t.Run("crane", func(t *testing.T) {
				t.Parallel()
				run(t, env, crane, "pull", "--insecure", "--format", "oci", w.addr+"/"+image, at("together-crane"))
				checkLayout(t, at("together-crane"), digest)
			})
			t.Run("oras", func(t *testing.T) {
				t.Parallel()
				run(t, env, oras, "copy", "--from-plain-http", "--to-oci-layout", w.addr+"/"+image, at("together-oras")+":bookworm")
				checkLayout(t, at("together-oras"), digest)
			})
		})
		checkFetchedOnce(t, up.requests(t, pulled), at("debian"))
	})

	// What weir knew, it knows after a restart. Docker asks mirrors without ?ns=.
	w.stop(t)
	w = startWeirAt(t, w.addr, at("data"), config+"  default: docker.io\n")
	write(t, at("docker", "daemon.json"), `{"log-level": "warn"}`)
	clientConfig(t, w, at("docker"), "docker")
	if text, err := os.ReadFile(at("docker", "daemon.json")); err != nil || !strings.Contains(string(text), `"log-level"`) {
		t.Errorf("daemon.json was not merged into: %s %v", text, err)
	}
	engine := startDocker(t, at("docker"), env, old)
	restarted := len(up.requests(t, 0))
	t.Run("pull/docker", func(t *testing.T) {
		engine.pull(t, "debian:bookworm", digest)
		if sent := blobBytes(up.requests(t, restarted)); len(sent) > 0 {
			t.Errorf("blobs were fetched again: %v", sent)
		}
	})

	// Pushes: the digest that a client says it pushed, or the one it pulled, is what weir has.
	target := func(client string) string { return w.addr + "/team/" + client + ":v1" }
	pushed := map[string]string{} // digests by name
	check := func(t *testing.T, client, digest string) {
		checkPushed(t, target(client), digest)
		pushed[target(client)] = digest
	}
	t.Run("push/containerd-1.6", func(t *testing.T) {
		old.push(t, image, target("containerd-old"))
		check(t, "containerd-old", digest)
		old.remove(t, image, target("containerd-old"))
		old.pull(t, target("containerd-old"), digest, "--plain-http")
	})
	t.Run("push/containerd-2.4", func(t *testing.T) {
		current.push(t, image, target("containerd-new"))
		check(t, "containerd-new", digest)
		current.remove(t, image, target("containerd-new"))
		current.pull(t, target("containerd-new"), digest, "--plain-http")
	})
	t.Run("push/docker", func(t *testing.T) {
		got := engine.push(t, "debian:bookworm", target("docker"))
		check(t, "docker", got)
		engine.do(t, "image", "rm", "debian:bookworm", target("docker"))
		engine.pull(t, target("docker"), got)
	})
	t.Run("push/podman", func(t *testing.T) {
		got := pod.push(t, image, target("podman"))
		check(t, "podman", got)
		pod.do(t, "image", "rm", image)
		pod.pull(t, target("podman"), got)
	})
	t.Run("push/skopeo", func(t *testing.T) {
		skopeo(t, "copy", "--all", "--dest-tls-verify=false", "oci:"+at("by-skopeo")+":bookworm", "docker://"+target("skopeo"))
		check(t, "skopeo", digest)
		skopeo(t, "copy", "--all", "--src-tls-verify=false", "docker://"+target("skopeo"), "oci:"+at("back-skopeo")+":v1")
		checkLayout(t, at("back-skopeo"), digest)
	})
	t.Run("push/crane", func(t *testing.T) {
		run(t, env, crane, "push", "--insecure", "--index", at("by-crane"), target("crane-index"))
		run(t, env, crane, "copy", "--insecure", w.addr+"/"+image, target("crane"))
		check(t, "crane", digest)
		run(t, env, crane, "pull", "--insecure", "--format", "oci", target("crane"), at("back-crane"))
		checkLayout(t, at("back-crane"), digest)
	})
	t.Run("push/oras", func(t *testing.T) {
		run(t, env, oras, "copy", "--from-oci-layout", "--to-plain-http", at("by-oras")+":bookworm", target("oras"))
		check(t, "oras", digest)
		sbom := write(t, at("sbom.txt"), "debian\n")
		run(t, env, oras, "attach", "--plain-http", "--disable-path-validation", "--artifact-type", "application/x.sbom", target("oras"), sbom+":text/plain")
		if found := run(t, env, oras, "discover", "--plain-http", target("oras")); !strings.Contains(found, "application/x.sbom") {
			t.Errorf("the attached artifact is not found:\n%s", found)
		}
		run(t, env, oras, "copy", "--from-plain-http", "--to-oci-layout", target("oras"), at("back-oras")+":v1")
		checkLayout(t, at("back-oras"), digest)
	})

	up.stop(t)
	all := &everybody{
		env: env, digest: digest, registries: registries, skopeo: skopeo, crane: crane, oras: oras,
		old: old, current: current, engine: engine, pod: pod, pushed: pushed,
	}
	t.Run("upstream gone", func(t *testing.T) { all.pullAgain(t, w) })
	w.stop(t)
	w = startWeirAt(t, w.addr, at("data"), config+"  default: docker.io\n")
	t.Run("upstream gone after a restart", func(t *testing.T) { all.pullAgain(t, w) })
}

// clientConfig has weir write a client's settings into dir.
func clientConfig(t *testing.T, w *weir, dir, client string, options ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{binary(t), "client", client, "--mirror", w.url(), "--upstream", "docker.io", "--write", dir}
	run(t, nil, append(args, options...)...)
}

// checkColdPull looks at all that the first pull of one platform asked of the
// upstream: each manifest and blob of that platform once, and nothing of the other.
func checkColdPull(t *testing.T, asked []request, layout string) {
	t.Helper()
	blobs := platformBlobs(t, layout)
	var manifests, heads int
	for _, r := range asked {
		_, digest, isBlob := strings.Cut(r.path, "/blobs/")
		switch {
		case isBlob && r.method == "GET" && !slices.Contains(blobs["amd64"], digest):
			t.Errorf("%s: nobody asked for that", r)
		case strings.Contains(r.path, "/manifests/") && r.method == "GET":
			manifests++
		case strings.Contains(r.path, "/manifests/"):
			heads++
		}
	}
	sent := blobBytes(asked)
	if len(sent) != len(blobs["amd64"]) {
		t.Errorf("%d blobs were fetched, the image has %d", len(sent), len(blobs["amd64"]))
	}
	if manifests > 2 || heads > 1 {
		t.Errorf("%d manifests fetched (an index and one image), %d asked for by HEAD", manifests, heads)
	}
	if t.Failed() {
		t.Logf("the upstream was asked: %v", asked)
	}
}

// checkFetchedOnce compares what the upstream sent with the image: of every blob
// each byte once, however many clients there were.
func checkFetchedOnce(t *testing.T, asked []request, dir string) {
	t.Helper()
	sent := blobBytes(asked)
	blobs := platformBlobs(t, dir)
	kinds := map[string]int{}
	for _, r := range asked {
		kinds[r.method+" "+strings.Split(strings.TrimPrefix(r.path, "/v2/library/debian/"), "/")[0]]++
	}
	t.Logf("asked of the upstream: %v", kinds)
	for _, digest := range slices.Concat(blobs["amd64"], blobs["arm64"]) {
		info, err := os.Stat(filepath.Join(dir, "blobs", strings.Replace(digest, ":", "/", 1)))
		if err != nil {
			t.Fatal(err)
		}
		if sent[digest] != info.Size() {
			t.Errorf("%s has %d bytes, and the upstream sent %d", digest, info.Size(), sent[digest])
		}
		delete(sent, digest)
	}
	for digest := range sent {
		t.Errorf("%s is no blob of the image", digest)
	}
	if t.Failed() {
		t.Logf("the upstream was asked: %v", asked)
	}
}

// platformBlobs lists config and layers of each platform of the layout's image.
func platformBlobs(t *testing.T, dir string) map[string][]string {
	t.Helper()
	root, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	top, err := root.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	index, err := root.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	blobs := map[string][]string{}
	for _, d := range manifest.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		m, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		arch := d.Platform.Architecture
		blobs[arch] = append(blobs[arch], m.Config.Digest.String())
		for _, l := range m.Layers {
			blobs[arch] = append(blobs[arch], l.Digest.String())
		}
	}
	return blobs
}

// checkLayout hashes all that a client stored of an index.
func checkLayout(t *testing.T, dir, digest string) {
	t.Helper()
	root, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := v1.NewHash(digest)
	if err != nil {
		t.Fatal(err)
	}
	index, err := root.ImageIndex(hash)
	if err != nil {
		t.Fatalf("the client does not have %s: %v", digest, err)
	}
	if err := rehashIndex(index); err != nil {
		t.Error(err)
	}
}

// get asks a registry for an image, as a client that has nothing to do with any of
// the others.
func get(t *testing.T, target string) *remote.Descriptor {
	t.Helper()
	ref, err := name.ParseReference(target, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	d, err := remote.Get(ref, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// checkPushed fetches all of a pushed image and hashes it.
func checkPushed(t *testing.T, target, digest string) {
	t.Helper()
	d := get(t, target)
	if d.Digest.String() != digest {
		t.Errorf("%s is %s, and %s was pushed", target, d.Digest, digest)
	}
	if d.MediaType.IsIndex() {
		index, err := d.ImageIndex()
		if err != nil {
			t.Fatal(err)
		}
		if err := rehashIndex(index); err != nil {
			t.Error(err)
		}
		return
	}
	img, err := d.Image()
	if err != nil {
		t.Fatal(err)
	}
	if err := rehashImage(d.Digest, img); err != nil {
		t.Error(err)
	}
}
