//go:build clients

package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/weir-registry/weir/store/s3/s3test"
)

// TestClientsImport has weir take over the storage of Debian's docker-registry, to which
// skopeo, crane and oras pushed, from a disk and from a bucket; and exchanges OCI image
// layouts with skopeo, crane, oras and containerd, old and new: each reads what weir wrote,
// and weir reads what each wrote. All is the same in the end, to the digest.
func TestClientsImport(t *testing.T) {
	dir := workDir(t)
	env := []string{"HOME=" + dir + "/home", "DOCKER_CONFIG=" + dir + "/home/.docker", "NO_PROXY=127.0.0.0/8", "no_proxy=127.0.0.0/8"}
	at := func(elem ...string) string { return filepath.Join(append([]string{dir}, elem...)...) }
	write(t, at("home", ".docker", "config.json"), "{}") // not this machine's credentials
	policy := write(t, at("policy.json"), `{"default": [{"type": "insecureAcceptAnything"}]}`)
	skopeo := func(args ...string) string {
		t.Helper()
		return run(t, env, append([]string{"skopeo", "--policy", policy}, args...)...)
	}
	crane, oras := tool(t, "crane"), tool(t, "oras")
	// command runs one of weir's on what is kept in that directory.
	command := func(data string, args ...string) string {
		t.Helper()
		file := write(t, at(data+".yaml"), fmt.Sprintf("store: {blobs: {filesystem: {root: %q}}}\nmirror: {well_known: false}\n", at(data)))
		return run(t, env, append(append([]string{binary(t)}, args...), "--config", file)...)
	}

	index, err := random.Index(64<<10, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Write(at("made"), index); err != nil {
		t.Fatal(err)
	}
	write(t, at("sbom.txt"), "sbom")
	names := []string{"team/app:v1", "team/app/copy:v2"}
	// filled pushes to a registry, and stops it.
	filled := func(up *upstream) (digests map[string]string) {
		t.Helper()
		run(t, env, crane, "push", "--insecure", "--index", at("made"), up.addr+"/team/app:v1")
		skopeo("copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+up.addr+"/team/app:v1", "docker://"+up.addr+"/team/app/copy:v2")
		for _, kind := range []string{"application/sbom", "application/signature"} {
			run(t, env, "sh", "-c", fmt.Sprintf("cd %s && %s attach --plain-http --artifact-type %s %s/team/app:v1 sbom.txt", dir, oras, kind, up.addr))
		}
		digests = map[string]string{}
		for _, name := range names {
			digests[name] = get(t, up.addr+"/"+name).Digest.String()
		}
		up.stop(t)
		return digests
	}
	digests := filled(startUpstream(t, dir))

	if said := command("data", "import", "--from", at("upstream")); !strings.Contains(said, "all linked)") {
		t.Errorf("the blobs were copied:\n%s", said)
	}
	if said := command("data", "import", "--from", at("upstream")); !strings.Contains(said, "imported: nothing to do") {
		t.Errorf("the second time:\n%s", said)
	}
	serves := func(data string, names ...string) {
		t.Helper()
		w := startWeir(t, at(data), "mirror: {well_known: false}\n")
		for _, name := range names {
			checkPushed(t, w.addr+"/"+name, digests[name])
		}
		if slices.Contains(names, "team/app:v1") {
			said := run(t, env, oras, "discover", "--plain-http", "--format", "tree", w.addr+"/team/app:v1")
			if !strings.Contains(said, "application/sbom") || !strings.Contains(said, "application/signature") {
				t.Errorf("what refers to it is not known:\n%s", said)
			}
		}
		w.stop(t)
	}
	serves("data", names...)
	t.Run("from a bucket", func(t *testing.T) {
		server := s3test.Start(t)
		bucket := server.Bucket(t)
		filled(startUpstreamOn(t, t.TempDir(), fmt.Sprintf(
			"{s3: {accesskey: %s, secretkey: %s, region: us-east-1, regionendpoint: %q, bucket: %s, secure: false, v4auth: true, rootdirectory: /old/registry}}",
			s3test.AccessKey, s3test.SecretKey, server.URL, bucket)))
		t.Setenv("AWS_ACCESS_KEY_ID", s3test.AccessKey)
		t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.SecretKey)
		from := []string{"import", "--from", "s3://" + bucket + "/old/registry", "--endpoint", server.URL, "--path-style"}
		command("from-bucket", from...)
		if said := command("from-bucket", from...); !strings.Contains(said, "imported: nothing to do") {
			t.Errorf("the second time:\n%s", said)
		}
		serves("from-bucket", names...)
	})

	command("data", "export", "--layout", at("ours"), names[0], names[1])
	t.Run("weir reads its own", func(*testing.T) {
		command("own", "import", "--layout", at("ours"))
		serves("own", names...)
	})
	t.Run("skopeo", func(t *testing.T) {
		skopeo("copy", "--all", "--preserve-digests", "oci:"+at("ours")+":v1", "oci:"+at("by-skopeo")+":v1")
		checkLayout(t, at("by-skopeo"), digests["team/app:v1"])
		command("skopeo", "import", "--layout", at("by-skopeo"), "--name", "team/app")
		w := startWeir(t, at("skopeo"), "mirror: {well_known: false}\n")
		checkPushed(t, w.addr+"/team/app:v1", digests["team/app:v1"])
	})
	t.Run("crane", func(t *testing.T) {
		command("data", "export", "--layout", at("one"), "team/app/copy:v2")
		checkLayout(t, at("one"), digests["team/app/copy:v2"])
		w := startWeir(t, at("data"), "mirror: {well_known: false}\n")
		run(t, env, crane, "pull", "--insecure", "--format", "oci", w.addr+"/team/app/copy:v2", at("by-crane"))
		w.stop(t)
		command("crane", "import", "--layout", at("by-crane"), "--name", "team/app/copy:v2")
		serves("crane", "team/app/copy:v2")
	})
	t.Run("oras", func(t *testing.T) {
		run(t, env, oras, "copy", "--recursive", "--from-oci-layout", "--to-oci-layout", at("ours")+":v1", at("by-oras")+":v1")
		command("oras", "import", "--layout", at("by-oras"), "--name", "team/app")
		serves("oras", "team/app:v1")
	})
	for name, start := range map[string]func(*testing.T, string, []string) *containerd{
		"containerd-1.6": startDebianContainerd, "containerd-2.4": startContainerd,
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, at(name), env)
			run(t, env, "tar", "-cf", at(name+".tar"), "-C", at("ours"), ".")
			c.do(t, "images", "import", "--no-unpack", "--all-platforms", at(name+".tar"))
			list := c.do(t, "images", "ls")
			for _, name := range names {
				if !strings.Contains(list, name+" ") || !strings.Contains(list, digests[name]) {
					t.Errorf("%s is not there:\n%s", name, list)
				}
			}
			c.do(t, "images", "export", "--all-platforms", at(name+"-out.tar"), names[0], names[1])
			if err := os.Mkdir(at("by-"+name), 0o755); err != nil {
				t.Fatal(err)
			}
			run(t, env, "tar", "-xf", at(name+"-out.tar"), "-C", at("by-"+name))
			command("in-"+name, "import", "--layout", at("by-"+name))
			w := startWeir(t, at("in-"+name), "mirror: {well_known: false}\n")
			for _, name := range names {
				checkPushed(t, w.addr+"/"+name, digests[name])
			}
		})
	}
}
