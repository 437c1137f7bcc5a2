package lifetime_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/mem"
)

// grace is that of all tests: what passes in them is not the time of this world.
const grace = 24 * time.Hour

// rig is a registry, and who collects its garbage.
type rig struct {
	t       *testing.T
	reg     *local.Registry // that clients use
	collect *lifetime.Collector
	options lifetime.CollectOptions

	blobs   store.Blobs
	records store.Records
	// age lets time pass.
	age func(time.Duration)
}

// rigs are the stores that all must hold on.
var rigs = map[string]func(t *testing.T, test func(*rig)){
	"memory":       inMemory,
	"disk":         onDisk,
	"two replicas": twoReplicas,
}

// each runs a test on all of them.
func each(t *testing.T, test func(*rig)) {
	for name, with := range rigs {
		t.Run(name, func(t *testing.T) { with(t, test) })
	}
}

func open(t *testing.T, blobs store.Blobs, records store.Records, sole bool) *local.Registry {
	t.Helper()
	reg, err := local.New(blobs, records, local.Options{Delete: true, Grace: grace, Sole: sole})
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

func inMemory(t *testing.T, test func(*rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, blobs: mem.NewBlobs(), records: mem.NewRecords(), age: time.Sleep}
		r.reg = open(t, r.blobs, r.records, true)
		r.use(r.reg, false)
		test(r)
	})
}

// twoReplicas has one process collect what the other one's clients push. They share no
// lock and no memory.
func twoReplicas(t *testing.T, test func(*rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, blobs: mem.NewBlobs(), records: mem.NewRecords(), age: time.Sleep}
		r.reg = open(t, r.blobs, r.records, false)
		r.use(open(t, r.blobs, r.records, false), true)
		test(r)
	})
}

// onDisk lets time pass by making all files older, and a new process find them.
func onDisk(t *testing.T, test func(*rig)) {
	dir := t.TempDir()
	var s *disk.Store
	r := &rig{t: t}
	start := func() {
		var err error
		if s, err = disk.Open(dir, disk.Options{}); err != nil {
			t.Fatal(err)
		}
		r.blobs, r.records = s.Blobs(), s.Records()
		r.reg = open(t, r.blobs, r.records, true)
		r.use(r.reg, false)
	}
	stop := func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	r.age = func(d time.Duration) {
		stop()
		older(t, dir, d)
		start()
	}
	start()
	defer func() { stop() }()
	test(r)
}

// older makes all files below a directory older.
func older(t *testing.T, dir string, by time.Duration) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		at := fi.ModTime().Add(-by)
		return os.Chtimes(name, at, at)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// next is the registry of a process that remembers nothing.
func (r *rig) next() *local.Registry { return open(r.t, r.blobs, r.records, !r.options.Shared) }

// use has a registry's garbage collected.
func (r *rig) use(reg *local.Registry, shared bool) {
	r.options.Grace, r.options.UploadExpiry, r.options.Shared = grace, grace, shared
	r.collect = lifetime.NewCollector(reg, reg, r.options)
}

// gc collects once, and gives what came of it.
func (r *rig) gc() lifetime.Report {
	r.t.Helper()
	rep, err := r.collect.Run(r.t.Context(), false)
	if err != nil {
		r.t.Errorf("collection: %v", err)
	}
	return rep
}

// full collects until nothing more is to go: what replicas condemn goes with a later run.
func (r *rig) full() {
	r.t.Helper()
	r.gc()
	if r.options.Shared {
		r.age(2 * time.Minute)
		r.gc()
	}
}

func repo(t testing.TB, name string) origin.Repo { return origintest.Repo(t, name) }

// head asks for a blob as a client does that might push it.
func (r *rig) head(name string, d digest.Digest) bool {
	r.t.Helper()
	_, err := r.reg.Stat(r.t.Context(), repo(r.t, name), d)
	if err != nil && !origin.Unknown(err) {
		r.t.Errorf("HEAD: %v", err)
	}
	return err == nil
}

// push pushes a tree as clients do: what is there is not pushed.
func (r *rig) push(name string, tree origintest.Tree, tags ...string) {
	r.t.Helper()
	for _, b := range tree.Blobs {
		if !r.head(name, b.Digest) {
			r.blob(name, b.Bytes)
		}
	}
	for _, c := range tree.Children {
		r.push(name, c)
	}
	r.manifest(name, tree, tags...)
}

func (r *rig) blob(name string, b []byte) digest.Digest {
	r.t.Helper()
	return origintest.PushBlob(r.t, r.reg, name, b)
}

func (r *rig) manifest(name string, tree origintest.Tree, tags ...string) {
	r.t.Helper()
	origintest.PushManifest(r.t, r.reg, name, tree.Manifest, tags...)
}

// pull wants that all of a tree is there.
func (r *rig) pull(name string, tree origintest.Tree) {
	r.t.Helper()
	if err := pulls(r.t.Context(), r.reg, repo(r.t, name), tree); err != nil {
		r.t.Errorf("pull: %v", err)
	}
}

func pulls(ctx context.Context, reg origin.Registry, repo origin.Repo, tree origintest.Tree) error {
	_, err := reg.Manifest(ctx, repo, origin.ByDigest(tree.Digest()))
	for _, b := range tree.Blobs {
		err = errors.Join(err, oracletest.ReadBlob(ctx, reg, repo, b.Digest))
	}
	for _, c := range tree.Children {
		err = errors.Join(err, pulls(ctx, reg, repo, c))
	}
	return err
}

// stored reports whether the bytes of a blob are there, whoever links it.
func (r *rig) stored(d digest.Digest) bool {
	r.t.Helper()
	_, err := r.blobs.Stat(r.t.Context(), d)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		r.t.Error(err)
	}
	return err == nil
}

func (r *rig) deleteManifest(name string, tree origintest.Tree) {
	r.t.Helper()
	if err := r.reg.DeleteManifest(r.t.Context(), repo(r.t, name), origin.ByDigest(tree.Digest())); err != nil {
		r.t.Error(err)
	}
}
