//go:build chaos

package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// soon is how long it may take until weir says that it cannot work, or that it can, on a
// machine that is busy.
const soon = time.Minute

// mountExt4 makes a real file system in a file, with few inodes, that turns read-only
// after an error.
func mountExt4(t *testing.T) *disk {
	t.Helper()
	d := &disk{filepath.Join(t.TempDir(), "disk")}
	file := d.dir + ".img"
	for _, argv := range [][]string{
		{"truncate", "-s", "256M", file},
		{"mkfs.ext4", "-q", "-F", "-N", "2000", file},
		{"mkdir", d.dir},
		{"mount", "-o", "loop,errors=remount-ro", file, d.dir},
	} {
		if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return d
}

// lost is a weir whose disk goes wrong: what was pushed to it, and an upstream with an
// image that was pulled, and one that was not.
type lost struct {
	*scene
	blob    []byte // that was pushed
	further string // path of a layer that nobody has pulled
}

func newLost(t *testing.T, d *disk) *lost {
	t.Helper()
	l := &lost{scene: &scene{disk: d, up: remotetest.New(t), bytes: map[string][]byte{}}, blob: origintest.Bytes(9, 100<<10)}
	layer := origintest.Bytes(1, 4<<20)
	l.image = l.up.AddImage("library/app", "1", layer)
	l.layer = "/v2/docker.io/library/app/blobs/" + l.image.Layers[0].Digest.String()
	l.bytes[l.layer] = layer
	further := origintest.Bytes(2, 4<<20)
	l.further = "/v2/docker.io/library/further/blobs/" + l.up.AddImage("library/further", "1", further).Layers[0].Digest.String()
	l.weir = startWeir(t, filepath.Join(d.dir, "data"), fmt.Sprintf(`
mirror:
  well_known: false
  cache: {min_free: 0}
  upstreams: [{name: docker.io, endpoints: [{url: %q}]}]
`, l.up.URL()))
	l.pull(t, 1)
	until(t, "the layer is kept", func() bool { return l.get(t, l.layer, 0) == "hit" })
	if err := l.push(t, l.blob); err != nil {
		t.Fatal(err)
	}
	l.bytes["/v2/team/app/blobs/"+digest.FromBytes(l.blob).String()] = l.blob
	l.ready(t, true)
	l.bytes[l.further] = further
	return l
}

// push pushes a blob.
func (l *lost) push(t *testing.T, content []byte) error {
	repo := origintest.Repo(t, "team/app")
	registry := &oracletest.HTTP{Base: "http://" + l.addr, Client: http.DefaultClient}
	in, err := registry.Upload(t.Context(), repo, "", digest.SHA256)
	if err != nil {
		return err
	}
	if _, err := in.Write(content); err != nil {
		return err
	}
	_, err = in.Commit(t.Context(), digest.FromBytes(content))
	return err
}

// refuses wants pushes to be refused as the server's fault, with a code.
func (l *lost) refuses(t *testing.T) {
	t.Helper()
	err := l.push(t, origintest.Bytes(uint64(time.Now().UnixNano()), 1000))
	e, ok := errors.AsType[*origin.Error](err)
	if err == nil || !ok || e.HTTPStatus() < 500 || e.Code == "" {
		t.Errorf("a push is answered with %v, want 5xx and a code", err)
	}
}

// ready wants weir to say so soon whether it is; it always lives.
func (l *lost) ready(t *testing.T, want bool) {
	t.Helper()
	began := time.Now()
	until(t, fmt.Sprintf("ready: %v", want), func() bool { return (l.asks(t, "/readyz") == http.StatusOK) == want })
	if took := time.Since(began); took > soon {
		t.Errorf("ready is %v only after %v", want, took)
	}
	if got := l.asks(t, "/healthz"); got != http.StatusOK {
		t.Errorf("healthz: %d", got)
	}
}

func (l *lost) asks(t *testing.T, path string) int {
	t.Helper()
	resp, err := http.Get("http://" + l.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// serves wants all that is there, and all that the upstream has, to be had.
func (l *lost) serves(t *testing.T) {
	t.Helper()
	for path := range l.bytes {
		l.get(t, path, 0)
	}
}

// A file system that has room and no inodes: what is pushed is refused, weir is not
// ready, all that is there and all that the upstream has is served; and when there are
// inodes again all is well, without a restart.
func TestFullDiskInodes(t *testing.T) {
	d := mountExt4(t)
	l := newLost(t, d)
	ballast := filepath.Join(d.dir, "ballast")
	if err := os.Mkdir(ballast, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		err := os.WriteFile(filepath.Join(ballast, fmt.Sprint(i)), nil, 0o600)
		if err != nil {
			break // there are no more
		}
	}
	l.ready(t, false)
	l.refuses(t)
	l.serves(t)
	if err := os.RemoveAll(ballast); err != nil {
		t.Fatal(err)
	}
	l.ready(t, true)
	if err := l.push(t, []byte("again")); err != nil {
		t.Errorf("with inodes again: %v", err)
	}
	until(t, "what is pulled is kept again", func() bool { return l.get(t, l.further, 0) == "hit" })
}

// A file system that turned read-only, as it does after an error: as above, but only its
// operator can mend it.
func TestFullDiskRemount(t *testing.T) {
	d := mountExt4(t)
	l := newLost(t, d)
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	var device string
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[1] == d.dir {
			device = filepath.Base(f[0])
		}
	}
	if err := os.WriteFile(filepath.Join("/sys/fs/ext4", device, "trigger_fs_error"), []byte("a test"), 0); err != nil {
		t.Fatal(err)
	}
	l.ready(t, false)
	l.refuses(t)
	l.serves(t)
}

// The directories of the store are taken away under it, with all that they hold. What is
// gone cannot be served as if it had never been, but what the upstream has comes again,
// and pushes go on.
func TestFullDiskDirectories(t *testing.T) {
	l := newLost(t, mountDisk(t, 128))
	for _, dir := range []string{"blobs", "tmp", "ingest", "spool"} {
		if err := os.RemoveAll(filepath.Join(l.data, dir)); err != nil {
			t.Fatal(err)
		}
	}
	delete(l.bytes, "/v2/team/app/blobs/"+digest.FromBytes(l.blob).String())
	l.ready(t, true)
	l.serves(t)
	until(t, "what is pulled is kept again", func() bool { return l.get(t, l.further, 0) == "hit" })
	if err := l.push(t, l.blob); err != nil {
		t.Errorf("push: %v", err)
	}
}

// The store as a whole is taken away: nothing of it is "not there", and weir is not
// ready. What the upstream has is passed through. An empty directory in its place, as where
// a volume is not mounted, stays empty. When a copy of the store is there, all that it has
// is served, and all goes on, without a restart.
func TestFullDiskGone(t *testing.T) {
	l := newLost(t, mountDisk(t, 128))
	backup := filepath.Join(l.disk.dir, "backup")
	run := func(argv ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	run("cp", "-a", l.data, backup)
	if err := os.RemoveAll(l.data); err != nil {
		t.Fatal(err)
	}
	l.ready(t, false)
	if err := os.Mkdir(l.data, 0o700); err != nil {
		t.Fatal(err)
	}
	l.refuses(t)
	for path, want := range l.bytes {
		resp, err := http.Get("http://" + l.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		_, err = got.ReadFrom(resp.Body)
		_ = resp.Body.Close()
		if (resp.StatusCode != http.StatusOK || err != nil || !bytes.Equal(got.Bytes(), want)) && resp.StatusCode < 500 {
			t.Errorf("%s: %s, %d bytes of %d, %v", path, resp.Status, got.Len(), len(want), err)
		}
	}
	l.ready(t, false)
	if made, err := os.ReadDir(l.data); err != nil || len(made) > 0 {
		t.Errorf("in the empty directory there are %v, %v", made, err)
	}

	if err := os.Remove(l.data); err != nil {
		t.Fatal(err)
	}
	run("mv", backup, l.data)
	l.ready(t, true)
	l.serves(t)
	if err := l.push(t, []byte("again")); err != nil {
		t.Errorf("push: %v", err)
	}
	until(t, "what is pulled is kept again", func() bool { return l.get(t, l.further, 0) == "hit" })
}
