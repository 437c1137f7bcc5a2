//go:build deploy

package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// tool runs a program, and gives what it printed.
func tool(t *testing.T, env []string, argv ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// password opens the keys.
const password = "open sesame"

// cosign runs cosign, which keeps what it keeps in a home of its own.
func cosign(t *testing.T, home string, args ...string) (string, error) {
	t.Helper()
	return tool(t, []string{"HOME=" + home, "COSIGN_PASSWORD=" + password}, append([]string{os.Getenv(cosignPath)}, args...)...)
}

// keyPair has cosign make the key that signs.
func keyPair(t *testing.T) (private, public string) {
	t.Helper()
	dir := t.TempDir()
	prefix := filepath.Join(dir, "release")
	if out, err := cosign(t, dir, "generate-key-pair", "--output-key-prefix", prefix); err != nil {
		t.Fatalf("cosign generate-key-pair: %v\n%s", err, out)
	}
	return prefix + ".key", prefix + ".pub"
}

// makeImage copies the checkout to a place of its own and has make build the image there.
func makeImage(t *testing.T, key, before string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := tool(t, nil, "bash", "-c", before+`
		set -euo pipefail
		git -C ../.. ls-files -coz --exclude-standard | tar -C ../.. --null --ignore-failed-read -T - -c | tar -x -C "$0"
		unset MAKEFLAGS MAKELEVEL
		export COSIGN_PASSWORD="$5"
		make -C "$0" image VERSION="$1" COMMIT="$2" SOURCE_DATE_EPOCH="$3" KEY="$4"`,
		dir, version, commit, strconv.Itoa(epoch), key, password); err != nil {
		t.Fatalf("make image: %v\n%s", err, out)
	}
	return dir
}

// tree lists the files below dir with their digests, but not their modes, which are the
// umask's.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files = append(files, fmt.Sprintf("%x %s", sha256.Sum256(data), strings.TrimPrefix(path, dir)))
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files in %s, %v", len(files), dir, err)
	}
	return files
}

// serve runs a weir that takes pushes from here. It leaves the image's ports alone.
func serve(t *testing.T, weir, addr string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "weir.yaml")
	text := fmt.Sprintf("server: {listen: %q}\nadmin: {listen: ''}\nstore: {blobs: {filesystem: {root: %q}}}\n", addr, t.TempDir())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(weir, "serve", "--config", config), addr)
}

// started is a server that ends with the test.
type started struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  string
	over chan error
}

// start runs a server and waits until it listens.
func start(t *testing.T, cmd *exec.Cmd, addr string) *started {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &started{t: t, cmd: cmd, log: log.Name(), over: make(chan error, 1)}
	go func() { s.over <- cmd.Wait(); close(s.over) }()
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd, s.said())
		}
	})
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := http.Get("http://" + addr + "/v2/"); err == nil {
			_ = resp.Body.Close()
			return s
		}
		select {
		case err := <-s.over:
			t.Fatalf("%s ended at once: %v\n%s", cmd, err, s.said())
		case <-deadline.C:
			t.Fatalf("%s does not listen\n%s", cmd, s.said())
		case <-tick.C:
		}
	}
}

// stop ends the server as its operator would. It may be called twice.
func (s *started) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	if err := <-s.over; err != nil {
		s.t.Errorf("%s ended: %v", s.cmd, err)
	}
}

func (s *started) said() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// signed has cosign verify a manifest with the key, and refuse it with another one.
func signed(t *testing.T, ref name.Reference, digest v1.Hash, public string) {
	t.Helper()
	home := t.TempDir()
	verify := func(key string) (string, error) {
		return cosign(t, home, "verify", "--key", key, "--insecure-ignore-tlog=true", "--allow-http-registry",
			ref.Context().Digest(digest.String()).String())
	}
	if out, err := verify(public); err != nil {
		t.Errorf("cosign does not believe %s: %v\n%s", digest, err, out)
	}
	_, other := keyPair(t)
	if out, err := verify(other); err == nil {
		t.Errorf("cosign believes %s with any key:\n%s", digest, out)
	}
}

// refers holds what refers to a manifest against what is to, by kind.
func refers(t *testing.T, at name.Digest, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for _, d := range referrers(t, at) {
		got[d.ArtifactType]++
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s has referrers %v, want %v", at, got, want)
	}
}

func referrers(t *testing.T, at name.Digest) []v1.Descriptor {
	t.Helper()
	list, err := remote.Referrers(at)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := list.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Manifests
}

// listsModules holds what an image says that it is made of against go.mod.
func listsModules(t *testing.T, at name.Digest) {
	t.Helper()
	i := slices.IndexFunc(referrers(t, at), func(d v1.Descriptor) bool { return d.ArtifactType == string(sbomType) })
	if i < 0 {
		return // which refers has said
	}
	artifact, err := remote.Image(at.Context().Digest(referrers(t, at)[i].Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	layers, err := artifact.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	text, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(text, cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for _, c := range *bom.Components {
		has[c.Name+" "+c.Version] = true
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range []string{"github.com/gorilla/mux", "github.com/google/cel-go", "github.com/aws/aws-sdk-go-v2", authoritiesModule} {
		_, rest, _ := strings.Cut(string(mod), "\t"+module+" ")
		version, _, _ := strings.Cut(rest, "\n")
		if !has[module+" "+version] {
			t.Errorf("%s does not name %s %s", at, module, version)
		}
	}
	if std := "std " + strings.TrimPrefix(runtime.Version(), "go"); !has[std] {
		t.Errorf("%s does not name %s", at, std)
	}
	if main := bom.Metadata.Component; main.Version != version || main.Name != "weir" {
		t.Errorf("%s is said to be %s %s", at, main.Name, main.Version)
	}
}
