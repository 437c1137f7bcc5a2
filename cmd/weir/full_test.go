package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
)

// smallDisk names the directory where the test's second life, in a mount namespace of
// its own, has a small disk.
const smallDisk = "WEIR_TEST_SMALL_DISK"

// onSmallDisk runs the test once more, in a process that sees a file system of that
// size in memory, and gives its directory there. In the process that go test has
// started it gives "": all is done by then.
func onSmallDisk(t *testing.T, size string) (dir string) {
	t.Helper()
	if dir := os.Getenv(smallDisk); dir != "" {
		// Nothing that is mounted here is seen outside, or outlives this process.
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatalf("make mounts private: %v", err)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
			t.Fatalf("mount tmpfs: %v", err)
		}
		return dir
	}
	again := func(attr *syscall.SysProcAttr) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), smallDisk+"="+t.TempDir())
		cmd.SysProcAttr = attr
		return cmd.CombinedOutput()
	}
	said, err := again(&syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS})
	if errors.Is(err, syscall.EPERM) {
		mine := func(id int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: id, Size: 1}} }
		said, err = again(&syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
			UidMappings: mine(os.Getuid()), GidMappings: mine(os.Getgid()),
		})
		if errors.Is(err, syscall.EPERM) {
			t.Fatalf("this test mounts a small file system: it needs root, or a kernel that lets others have user namespaces (%v)", err)
		}
	}
	if err != nil || !bytes.Contains(said, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("on a small disk: %v\n%s", err, said)
	}
	t.Logf("%s", said)
	return ""
}

// filled is a weir on a disk that has no room for what is pushed to it.
type filled struct {
	t        *testing.T
	registry *oracletest.HTTP
	ledger   *oracletest.Ledger
	world    *oracletest.World
	repo     origin.Repo
	refused  atomic.Int64
}

// push pushes a blob in so many chunks.
func (f *filled) push(content []byte, chunks int) error {
	d := digest.FromBytes(content)
	end := f.ledger.Begin(oracletest.Op{Kind: oracletest.PushBlob, Repo: f.repo.String(), Digest: d})
	err := func() error {
		in, err := f.registry.Upload(f.t.Context(), f.repo, "", digest.SHA256)
		if err != nil {
			return err
		}
		for i := range chunks {
			if i > 0 {
				if err := in.Close(); err != nil {
					return err
				}
			}
			if _, err := in.Write(content[len(content)*i/chunks : len(content)*(i+1)/chunks]); err != nil {
				return err
			}
		}
		_, err = in.Commit(f.t.Context(), d)
		return err
	}()
	end(err)
	return f.full(err)
}

// image pushes an image of that layer, with a tag.
func (f *filled) image(layer []byte, tag string) error {
	tree := origintest.Image([]byte("{}"), layer)
	for _, b := range tree.Blobs {
		if err := f.push(b.Bytes, 1); err != nil {
			return err
		}
	}
	end := f.ledger.Begin(oracletest.PushOf(f.repo, tree, tag))
	_, err := f.registry.Push(f.t.Context(), f.repo, tree.Manifest, origin.PushOptions{Tags: []origin.Ref{origintest.Ref(f.t, tag)}})
	end(err)
	return f.full(err)
}

// full notes a refusal for want of room; there is no other.
func (f *filled) full(err error) error {
	if err == nil {
		return nil
	}
	f.refused.Add(1)
	if e, ok := errors.AsType[*origin.Error](err); !ok || e.HTTPStatus() != http.StatusInsufficientStorage || e.Code == "" {
		f.t.Errorf("a push that does not fit is answered with %v, want 507 and a code", err)
	}
	return err
}

// pull pulls an image by its tag.
func (f *filled) pull(tag string) error {
	ctx := f.t.Context()
	m, err := f.registry.Manifest(ctx, f.repo, origintest.Ref(f.t, tag))
	if err != nil {
		return err
	}
	if got := digest.FromBytes(m.Bytes); got != m.Digest {
		return fmt.Errorf("manifest %s has the bytes of %s", m.Digest, got)
	}
	c, err := origin.ReadManifest(m.MediaType, m.Bytes)
	for _, b := range c.Blobs {
		err = errors.Join(err, oracletest.ReadBlob(ctx, f.registry, f.repo, b.Digest))
	}
	return err
}

// TestFullDisk pushes 200 MiB to a weir whose disk has 64, from four clients, while
// others pull what is there. What does not fit is refused in words that clients
// understand, and leaves nothing; what is there can be pulled all the time; and when
// there is room again everything works, without a restart.
func TestFullDisk(t *testing.T) {
	dir := onSmallDisk(t, "64m")
	if dir == "" {
		return
	}
	// What stands beside the data, and is removed to make room.
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 24<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProcess(t, filepath.Join(dir, "data"), "")
	p.start()
	f := &filled{t: t, registry: p.registry(), ledger: new(oracletest.Ledger), world: oracletest.NewWorld(1, 10)}
	f.repo = f.world.Repos[0]
	for i, tag := range f.world.Tags[:2] {
		if err := f.image(origintest.Bytes(uint64(i), 3<<20), tag); err != nil {
			t.Fatal(err)
		}
	}

	const clients, each, blob = 4, 13, 4 << 20
	ctx, stop := context.WithCancel(t.Context())
	var pushing, pulling sync.WaitGroup
	var pulls atomic.Int64
	for i := range 2 {
		pulling.Go(func() {
			for ctx.Err() == nil {
				if err := f.pull(f.world.Tags[i]); err != nil {
					t.Errorf("pull while the disk is full: %v", err)
					return
				}
				pulls.Add(1)
			}
		})
	}
	for c := range clients {
		pushing.Go(func() {
			for i := range each {
				content := origintest.Bytes(uint64(1000*c+i+10), blob)
				if i%3 == 0 {
					_ = f.push(content, 3) // that it is refused is noted
				} else {
					_ = f.image(content, f.world.Tags[2+c%2])
				}
			}
		})
	}
	pushing.Wait()
	eventually(t, "somebody pulls", func() bool { return pulls.Load() >= 10 || t.Failed() })
	stop()
	pulling.Wait()
	acked := f.ledger.Count(oracletest.Acked)
	t.Logf("%d MiB pushed: %d operations acked, %d refused; %d pulls meanwhile", clients*each*blob>>20, acked, f.refused.Load(), pulls.Load())
	if f.refused.Load() < 20 {
		t.Error("the disk was not full")
	}
	f.check("full")
	wantNoUploads(t, filepath.Join(dir, "data"))

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for i, tag := range f.world.Tags {
		if err := f.image(origintest.Bytes(uint64(5000+i), 2<<20), tag); err != nil {
			t.Errorf("push when there is room again: %v", err)
		} else if err := f.pull(tag); err != nil {
			t.Errorf("pull when there is room again: %v", err)
		}
	}
	f.check("with room again")
	p.stop()
	p.start()
	f.check("after a restart")
	p.stop()
	p.saidNothingBad()
}

func (f *filled) check(when string) {
	f.t.Helper()
	if err := oracletest.Check(f.t.Context(), f.registry, f.ledger, f.world); err != nil {
		f.t.Errorf("%s: %v", when, err)
	}
}

// wantNoUploads wants that no upload that was refused takes up room: its client has
// given up, and nobody would resume it.
func wantNoUploads(t *testing.T, data string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(data, "ingest", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, name := range left {
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		size += fi.Size()
	}
	if size > 0 {
		t.Errorf("%d bytes of uploads are left on the full disk", size)
	}
}
