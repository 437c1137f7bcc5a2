//go:build chaos

package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/deploy/alonetest"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// soon is how long it may take until weir works over a store that is there again: it looks
// each second. That it cannot work, or can, where it still has the store, it knows whenever it
// is asked.
const soon = 5 * time.Second

// mountExt4 makes a real file system in a file, with few inodes, that turns read-only
// after an error.
func mountExt4(t *testing.T) *disk {
	t.Helper()
	d := &disk{filepath.Join(t.TempDir(), "disk")}
	file := d.dir + ".img"
	alonetest.Run(t, nil, "truncate", "-s", "256M", file)
	alonetest.Run(t, nil, "mkfs.ext4", "-q", "-F", "-N", "2000", file)
	alonetest.Run(t, nil, "mkdir", d.dir)
	alonetest.Run(t, nil, "mount", "-o", "loop,errors=remount-ro", file, d.dir)
	t.Cleanup(func() { d.unmount(t) })
	return d
}

// unmount takes a file system away from under who has it open.
func (d *disk) unmount(t *testing.T) {
	t.Helper()
	if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
		t.Errorf("unmount: %v", err)
	}
}

// lost is a weir whose disk goes wrong: what was pushed to it, and an upstream with an
// image that was pulled, and one that was not.
type lost struct {
	*scene
	blob    []byte // that was pushed
	further string // path of a layer that nobody has pulled
	config  string
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
	l.config = fmt.Sprintf(`
mirror:
  well_known: false
  cache: {min_free: 0}
  upstreams: [{name: docker.io, endpoints: [{url: %q}]}]
`, l.up.URL())
	l.weir = startWeir(t, filepath.Join(d.dir, "data"), l.config)
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

// ready wants weir to say whether it is, the first time that it is asked; it always lives.
func (l *lost) ready(t *testing.T, want bool) {
	t.Helper()
	if got := l.asks(t, "/readyz"); (got == http.StatusOK) != want {
		t.Errorf("readyz: %d, want ready: %v", got, want)
	}
	if got := l.asks(t, "/healthz"); got != http.StatusOK {
		t.Errorf("healthz: %d", got)
	}
}

// comesBack wants weir to be ready again soon after the store is there again, by the clock of
// weir's own log: others may keep us from asking.
func (l *lost) comesBack(t *testing.T, since time.Time) {
	t.Helper()
	until(t, "ready again", func() bool { return l.asks(t, "/readyz") == http.StatusOK })
	text, err := os.ReadFile(l.log)
	if err != nil {
		t.Fatal(err)
	}
	var back time.Time
	for line := range bytes.Lines(text) {
		var entry struct {
			Time time.Time
			Msg  string
		}
		if json.Unmarshal(line, &entry) == nil && strings.HasPrefix(entry.Msg, "the store is there again") {
			back = entry.Time
		}
	}
	if took := back.Sub(since); took < 0 || took > soon {
		t.Errorf("the store was there at %v, and weir says so at %v", since, back)
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

// A file system that is made read-only, and writable again: as above.
func TestFullDiskRemount(t *testing.T) {
	d := mountDisk(t, 128)
	// What is open for writing keeps a mount writable: the lock stands on another, and nothing
	// has been written yet.
	lock := filepath.Join(d.dir, "data", ".lock")
	alonetest.Run(t, nil, "mkdir", filepath.Dir(lock))
	alonetest.Run(t, nil, "touch", lock)
	if err := syscall.Mount(lock, lock, "", syscall.MS_BIND, ""); err != nil {
		t.Fatalf("bind %s: %v", lock, err)
	}
	l := newLost(t, d)
	l.stop(t)
	l.weir = startWeir(t, l.data, l.config)
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("", d.dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|flags, ""); err != nil {
			t.Fatalf("remount %s: %v", d.dir, err)
		}
	}
	remount(syscall.MS_RDONLY)
	l.ready(t, false)
	l.refuses(t)
	l.serves(t)
	remount(0)
	l.ready(t, true)
	if err := l.push(t, []byte("again")); err != nil {
		t.Errorf("where it can be written again: %v", err)
	}
	until(t, "what is pulled is kept again", func() bool { return l.get(t, l.further, 0) == "hit" })
}

// A file system that turned read-only by itself, as it does after an error: as above, but
// the kernel lets nobody write to it again, nor mount it anew while weir has it open. Its operator
// mounts a copy that is mended, and all goes on, without a restart.
func TestFullDiskError(t *testing.T) {
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
	d.unmount(t)
	l.ready(t, false)
	mended := d.dir + ".mended"
	alonetest.Run(t, nil, "cp", "--sparse=always", d.dir+".img", mended)
	alonetest.Run(t, nil, "sh", "-c", "e2fsck -p -f \"$0\" || [ $? = 1 ]", mended) // 1: there was something to mend
	there := time.Now()
	alonetest.Run(t, nil, "mount", "-o", "loop", mended, d.dir)
	l.comesBack(t, there)
	l.serves(t)
	if err := l.push(t, []byte("again")); err != nil {
		t.Errorf("push: %v", err)
	}
	until(t, "what is pulled is kept again", func() bool { return l.get(t, l.further, 0) == "hit" })
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
	alonetest.Run(t, nil, "cp", "-a", l.data, backup)
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
	there := time.Now()
	alonetest.Run(t, nil, "mv", backup, l.data)
	l.comesBack(t, there)
	l.serves(t)
	if err := l.push(t, []byte("again")); err != nil {
		t.Errorf("push: %v", err)
	}
	until(t, "what is pulled is kept again", func() bool { return l.get(t, l.further, 0) == "hit" })
}
