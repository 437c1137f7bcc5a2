package main

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// created is an answer to a push, as strace quotes it.
var created = regexp.MustCompile(`^HTTP/1\.1 201 .*Location: /v2/a/(blobs|manifests)/sha256:([0-9a-f]{64})`)

// Of 200 pushes by four clients, each was durable, in the order that makes it so,
// before the first byte of its answer left: of a blob its bytes, its name and the
// directories, and that a log has that the repository has it; of a manifest that a log
// has its record.
func TestPushesAreDurableBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("%v: the order of system calls cannot be proved without it", err)
	}
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	data, trace := filepath.Join(base, "data"), filepath.Join(t.TempDir(), "trace")
	p := newProcess(t, data, "", strace, "-f", "-y", "-s", "65536", "-o", trace,
		"-e", "trace=open,openat,openat2,creat,write,pwrite64,writev,fsync,fdatasync,syncfs,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,truncate,ftruncate")
	p.start()

	const clients, images = 4, 25 // of a layer and a manifest each; all have one config
	registry, repo := p.registry(), origintest.Repo(t, "a")
	push := func(b []byte) error {
		in, err := registry.Upload(t.Context(), repo, "", digest.SHA256)
		if err != nil {
			return err
		}
		if _, err := in.Write(b); err != nil {
			return err
		}
		_, err = in.Commit(t.Context(), digest.FromBytes(b))
		return err
	}
	if err := push([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range images {
				layer := fmt.Appendf(nil, "layer %d of client %d", i, c)
				tree := origintest.Image([]byte("{}"), layer)
				if err := push(layer); err != nil {
					t.Error(err)
				}
				if _, err := registry.Push(t.Context(), repo, tree.Manifest, origin.PushOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	p.stop()

	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	calls, err := disktest.ParseTrace(f)
	if err != nil {
		t.Fatal(err)
	}
	acks := 0
	for _, call := range calls {
		m := created.FindStringSubmatch(call.Text)
		if m == nil || call.Name != "write" {
			continue
		}
		acks++
		key := "r/a/_m/sha256/" + m[2]
		if m[1] == "blobs" {
			key = "r/a/_b/sha256/" + m[2]
			if err := disktest.Durable(calls, call, base, path.Join(data, "blobs/sha256", m[2])); err != nil {
				t.Error(err)
			}
		}
		if err := disktest.Logged(calls, call, base, data, key); err != nil {
			t.Error(err)
		}
	}
	if want := 2*clients*images + 1; acks != want {
		t.Errorf("%d pushes were acknowledged, want %d: the trace does not show them", acks, want)
	}
	p.saidNothingBad()
}
