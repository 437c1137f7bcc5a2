//go:build chaos

package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// disk is a small file system that a weir keeps its data on. It goes with the mount
// namespace of the tests.
type disk struct{ dir string }

func mountDisk(t *testing.T, megabytes int) *disk {
	t.Helper()
	d := &disk{t.TempDir()}
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Fatalf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return d
}

// fill takes all the room there is, and gives what returns it.
func (d *disk) fill(t *testing.T) (empty func()) {
	t.Helper()
	name := filepath.Join(d.dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("ballast: %v", err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// scene is a weir on a small disk, and an upstream with one image: a layer that comes
// in one piece, and one that comes in ranges.
type scene struct {
	*weir
	disk  *disk
	up    *remotetest.Upstream
	image remotetest.Image
	bytes map[string][]byte // by path
	layer string            // path of the large one
}

// newScene makes it; prepare, unless nil, is called with the data directory before
// weir is started.
func newScene(t *testing.T, prepare func(data string)) *scene {
	t.Helper()
	s := &scene{disk: mountDisk(t, 128), up: remotetest.New(t), bytes: map[string][]byte{}}
	data := filepath.Join(s.disk.dir, "data")
	if prepare != nil {
		prepare(data)
	}
	layers := [][]byte{origintest.Bytes(1, 700<<10), origintest.Bytes(2, 32<<20)}
	s.image = s.up.AddImage("library/app", "1", layers...)
	for i, l := range s.image.Layers {
		s.layer = "/v2/docker.io/library/app/blobs/" + l.Digest.String()
		s.bytes[s.layer] = layers[i]
	}
	s.bytes["/v2/docker.io/library/app/manifests/"+s.image.Digest.String()] = s.image.Bytes
	s.weir = startWeir(t, data, fmt.Sprintf(`
mirror:
  well_known: false
  upstreams: [{name: docker.io, endpoints: [{url: %q}]}]
`, s.up.URL()))
	return s
}

// get asks for a path, or for a range of it, and gives the word of Weir-Cache. The
// answer must be whole and right.
func (s *scene) get(t *testing.T, path string, from int) (cache string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, status := s.bytes[path], http.StatusOK
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		want, status = want[from:], http.StatusPartialContent
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Errorf("%s from %d: %v", path, from, err)
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || !bytes.Equal(body, want) {
		t.Errorf("%s from %d: %s, %d bytes of %d, %v", path, from, resp.Status, len(body), len(want), err)
	}
	return resp.Header.Get("Weir-Cache")
}

// pull pulls the image as several clients at once do.
func (s *scene) pull(t *testing.T, clients int) {
	t.Helper()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for path := range s.bytes {
				s.get(t, path, 0)
			}
		})
	}
	all.Wait()
	until(t, "fills end", func() bool { return s.gauges(t)["weir_fills_active"] == 0 })
}

// unkept checks that the large layer is not there, nor any part of it.
func (s *scene) unkept(t *testing.T) {
	t.Helper()
	hex := s.image.Layers[1].Digest.Encoded()
	err := filepath.Walk(s.data, func(name string, info os.FileInfo, err error) error {
		switch {
		case os.IsNotExist(err): // it went while we looked
			return nil
		case err != nil:
			return err
		case strings.Contains(name, hex):
			t.Errorf("%s was kept", name)
		case info.Mode().IsRegular() && strings.HasPrefix(name, filepath.Join(s.data, "spool")+string(filepath.Separator)):
			t.Errorf("a spool is left: %s, %d bytes", name, info.Size())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// kept checks that the next pull is kept, by the same process, and the one after it
// is a hit.
func (s *scene) kept(t *testing.T) {
	t.Helper()
	s.pull(t, 1)
	until(t, "the layer is kept", func() bool { return s.get(t, s.layer, 0) == "hit" })
	for path := range s.bytes {
		if cache := s.get(t, path, 0); cache != "hit" {
			t.Errorf("%s: %s", path, cache)
		}
	}
	until(t, "no spool is left", func() bool {
		left, err := os.ReadDir(filepath.Join(s.data, "spool"))
		return err == nil && len(left) == 0
	})
}

// A disk that is full when a pull begins: everybody gets everything all the same,
// nothing is kept, and once there is room the next pull is.
func TestFullDisk(t *testing.T) {
	s := newScene(t, nil)
	empty := s.disk.fill(t)
	s.pull(t, 5)
	s.unkept(t)
	empty()
	s.kept(t)
}

// A disk that fills in the middle of a download, while clients are at different
// places of it: each gets the rest.
func TestFullDiskInTheMiddle(t *testing.T) {
	s := newScene(t, nil)
	s.get(t, "/v2/docker.io/library/app/manifests/"+s.image.Digest.String(), 0)
	s.inTheMiddle(t, func() func() { return s.disk.fill(t) })
	s.unkept(t)
}

// A spool directory that is taken away in the middle of a download: those who are in
// it get the rest, and for those who come later it is made anew.
func TestFullDiskSpoolGone(t *testing.T) {
	s := newScene(t, nil)
	s.get(t, "/v2/docker.io/library/app/manifests/"+s.image.Digest.String(), 0)
	s.inTheMiddle(t, func() (mend func()) {
		if err := os.RemoveAll(filepath.Join(s.data, "spool")); err != nil {
			t.Error(err)
		}
		return func() {}
	})
	s.kept(t)
}

// A spool directory that cannot be written: everybody is served, nothing is kept,
// and once it can be the next pull is.
func TestFullDiskReadOnly(t *testing.T) {
	var spool string
	// A mount of its own, which weir has open, can be made read-only under it.
	s := newScene(t, func(data string) {
		spool = filepath.Join(data, "spool")
		if err := os.MkdirAll(spool, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount(spool, spool, "", syscall.MS_BIND, ""); err != nil {
			t.Fatalf("bind %s: %v", spool, err)
		}
	})
	t.Cleanup(func() {
		if err := syscall.Unmount(spool, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	remount := func(flags uintptr) {
		if err := syscall.Mount("", spool, "", syscall.MS_REMOUNT|syscall.MS_BIND|flags, ""); err != nil {
			t.Fatalf("remount %s: %v", spool, err)
		}
	}
	remount(syscall.MS_RDONLY)
	s.pull(t, 5)
	s.unkept(t)
	remount(0)
	s.kept(t)
}

// inTheMiddle has ten clients at different offsets of the large layer, some by range,
// when what breaks the disk is called; what that gives mends it when all have ended.
func (s *scene) inTheMiddle(t *testing.T, breaks func() (mend func())) {
	t.Helper()
	digest := s.image.Layers[1].Digest.String()
	size := len(s.bytes[s.layer])
	gate := s.up.GateAt("/blobs/"+digest, 600<<10) // of each range
	var all sync.WaitGroup
	for i := range 10 {
		from := 0
		if i >= 5 {
			from = (i - 4) * size / 7
		}
		all.Go(func() { s.get(t, s.layer, from) })
	}
	if err := gate.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "all have come", func() bool { return s.gauges(t)["weir_fill_followers"] == 10 })
	mend := breaks()
	gate.Open()
	all.Wait()
	until(t, "the fill ends", func() bool { return s.gauges(t)["weir_fills_active"] == 0 })
	mend()
}
