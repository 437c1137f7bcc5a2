//go:build deploy

package main

import (
	"bytes"
	"crypto/x509"
	"debug/elf"
	"errors"
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

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// unpack makes the root file system of an image, and checks what is in it.
func unpack(t *testing.T, image v1.Image) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil { // who is not root passes here
		t.Fatal(err)
	}
	flat := mutate.Extract(image)
	defer flat.Close()
	cmd := exec.CommandContext(t.Context(), "tar", "--numeric-owner", "--same-owner", "-xp", "-C", root)
	cmd.Stdin = flat
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	var got []string
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		if st.Mtim.Sec != epoch {
			t.Errorf("%s is of %d", path, st.Mtim.Sec)
		}
		got = append(got, fmt.Sprintf("%o %d:%d %s", st.Mode, st.Uid, st.Gid, strings.TrimPrefix(path, root)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"40700 65532:65532 /data",
		"40755 0:0 /etc",
		"100644 0:0 /etc/group",
		"100644 0:0 /etc/passwd",
		"40755 0:0 /etc/ssl",
		"40755 0:0 /etc/ssl/certs",
		"100644 0:0 /etc/ssl/certs/ca-certificates.crt",
		"40755 0:0 /etc/weir",
		"100644 0:0 /etc/weir/weir.yaml",
		"41777 0:0 /tmp",
		"40755 0:0 /usr",
		"40755 0:0 /usr/bin",
		"100755 0:0 /usr/bin/weir",
		"40755 0:0 /usr/share",
		"40755 0:0 /usr/share/doc",
		"40755 0:0 /usr/share/doc/weir",
		"100644 0:0 /usr/share/doc/weir/copyright",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the image holds\n%s", strings.Join(got, "\n"))
	}
	if terms, err := os.ReadFile(filepath.Join(root, "usr/share/doc/weir/copyright")); err != nil || !bytes.Contains(terms, []byte("github.com/google/cel-go v")) {
		t.Errorf("the terms are %d bytes, %v", len(terms), err)
	}
	believed, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(believed) || bytes.Count(believed, []byte("BEGIN")) < 80 {
		t.Errorf("%d authorities", bytes.Count(believed, []byte("BEGIN")))
	}
	return root
}

// standalone checks that a program is one for that machine, and needs nothing beside it.
func standalone(t *testing.T, program string, machine elf.Machine) {
	t.Helper()
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Machine != machine {
		t.Errorf("%s is for %s", program, f.Machine)
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC }) {
		t.Errorf("%s is not static", program)
	}
}

// container is an image that runs as a container runtime would have it: its own user, no
// capabilities, its root read-only, a volume at /data.
type container struct {
	t    *testing.T
	arch string
	conf v1.Config
	root string
	data string
}

// emulators run programs of machines that are not this one, and need nothing beside them.
var emulators = map[string]string{"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}

func newContainer(t *testing.T, image v1.Image, root string) *container {
	t.Helper()
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := &container{t: t, arch: file.Architecture, conf: file.Config, root: root, data: filepath.Join(t.TempDir(), "volume")}
	if _, ok := c.conf.Volumes["/data"]; !ok {
		t.Error("/data is no volume")
	}
	if c.conf.Labels["org.opencontainers.image.version"] != version {
		t.Errorf("the labels are %v", c.conf.Labels)
	}
	if err := os.Mkdir(c.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(c.data, nonroot, nonroot); err != nil {
		t.Fatal(err)
	}
	for _, m := range []struct {
		from, to string
		flags    uintptr
	}{
		{root, root, syscall.MS_BIND},
		{"", root, syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY},
		{c.data, filepath.Join(root, "data"), syscall.MS_BIND},
	} {
		if err := syscall.Mount(m.from, m.to, "", m.flags, ""); err != nil {
			t.Fatalf("mount %s: %v", m.to, err)
		}
		if m.from != "" {
			t.Cleanup(func() { _ = syscall.Unmount(m.to, syscall.MNT_DETACH) })
		}
	}
	if c.arch != runtime.GOARCH {
		// It has to be where the image can see it, and the volume alone is written to.
		program, err := exec.LookPath(emulators[c.arch])
		if err != nil {
			t.Fatal(err)
		}
		if out, err := tool(t, nil, "install", "-m", "0755", program, filepath.Join(c.data, "emulator")); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return c
}

// command is the image's entry point with those arguments; none: its own.
func (c *container) command(args ...string) *exec.Cmd {
	c.t.Helper()
	if len(args) == 0 {
		args = c.conf.Cmd
	}
	uid, gid, _ := strings.Cut(c.conf.User, ":")
	u, err := strconv.ParseUint(uid, 10, 32)
	g, err2 := strconv.ParseUint(gid, 10, 32)
	if err := errors.Join(err, err2); err != nil || u == 0 || g == 0 {
		c.t.Fatalf("the user is %q: %v", c.conf.User, err)
	}
	argv := slices.Concat(c.conf.Entrypoint, args)
	if c.arch != runtime.GOARCH {
		argv = slices.Insert(argv, 0, "/data/emulator")
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = c.conf.WorkingDir, c.conf.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root, Credential: &syscall.Credential{Uid: uint32(u), Gid: uint32(g)}}
	return cmd
}

// put makes a file in the volume.
func (c *container) put(file, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.data, file), []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// runs runs an image as it is, and then as its log says to let somebody push.
func runs(t *testing.T, image v1.Image, root string) {
	const addr = "127.0.0.1:5000" // as the image has it
	c := newContainer(t, image, root)
	if out, err := c.command("version").CombinedOutput(); err != nil || !strings.Contains(string(out), version) || !strings.Contains(string(out), " linux/"+c.arch+"\n") {
		t.Fatalf("weir version: %v\n%s", err, out)
	}
	if out, err := c.command("check", "--config", "/etc/weir/weir.yaml").CombinedOutput(); err != nil {
		t.Fatalf("weir check: %v\n%s", err, out)
	}

	s := start(t, c.command(), addr)
	pushed := randomImage(t)
	ref, err := name.NewTag(addr + "/team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.Get("http://" + addr + "/v2/"); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET /v2/: %v, %v", resp, err)
	}
	if err := remote.Write(ref, pushed); err == nil || !strings.Contains(err.Error(), "the log of weir says what to add") {
		t.Errorf("an anonymous push: %v", err)
	}
	s.stop() // with which all that was logged is written
	const rule = `identity.authenticated && request.action == "push"`
	if said := s.said(); !strings.Contains(said, "authz.policy.allow: - "+strings.ReplaceAll(rule, `"`, `\"`)) {
		t.Errorf("the log does not say how to let somebody push:\n%s", said)
	}

	hash := c.command("hash-password", "--user", "ci")
	hash.Stdin = strings.NewReader("secret\n")
	line, err := hash.Output()
	if err != nil {
		t.Fatalf("weir hash-password: %v", err)
	}
	c.put("htpasswd", string(line))
	c.put("site.yaml", "authz: {basic: {htpasswd: /data/htpasswd}, policy: {allow: [\"request.action in ['pull', 'list']\", '"+rule+"']}}\n")
	s = start(t, c.command(append(slices.Clone(c.conf.Cmd), "--config", "/data/site.yaml")...), addr)
	if err := remote.Write(ref, pushed); err == nil {
		t.Error("nobody may push")
	}
	if err := remote.Write(ref, pushed, remote.WithAuth(&authn.Basic{Username: "ci", Password: "secret"})); err != nil {
		t.Errorf("a push of somebody: %v", err)
	}
	pulled, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(pulled); err != nil {
		t.Error(err)
	}
	s.stop()
	if left, err := os.ReadDir(filepath.Join(root, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("%v in /tmp, %v", left, err)
	}
	if _, err := os.Create(filepath.Join(root, "etc/more")); !errors.Is(err, syscall.EROFS) {
		t.Errorf("the root was not read-only: %v", err)
	}
	size, err := os.Stat(filepath.Join(root, "usr/bin/weir"))
	if err != nil {
		t.Fatal(err)
	}
	var packed int64
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		n, err := l.Size()
		if err != nil {
			t.Fatal(err)
		}
		packed += n
	}
	t.Logf("the binary has %.1f MB, the image %.1f MB", float64(size.Size())/1e6, float64(packed)/1e6)
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	image, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	return image
}
