package local_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/oracletest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// act is an operation that may be hit by a fault of the disk. Done again after a
// failure, it is what a client would do then.
type act struct {
	name  string
	setup func(s *scene) []act // what is done before
	op    func(s *scene) oracletest.Op
	do    func(ctx context.Context, s *scene) error
}

// scene is a registry over a disk that fails, reached over HTTP.
type scene struct {
	client *oracletest.HTTP
	faulty disktest.Faulty
	ledger oracletest.Ledger
	world  *oracletest.World
	repo   origin.Repo
	other  origin.Repo
	upload string // the id of one that was not finished
}

func (s *scene) image() origintest.Tree    { return s.world.Trees[0] }
func (s *scene) newImage() origintest.Tree { return s.world.Trees[1] }
func (s *scene) artifact() origintest.Tree { return s.world.Trees[5] }
func (s *scene) layer() []byte             { return s.world.Trees[0].Blobs[1].Bytes }

// blobs pushes what a tree needs.
func blobs(s *scene, tree origintest.Tree) []act {
	var acts []act
	for _, b := range tree.Blobs {
		acts = append(acts, pushBlob("", b.Bytes))
	}
	return acts
}

func pushBlob(name string, content []byte) act {
	return act{
		name: name,
		op: func(s *scene) oracletest.Op {
			return oracletest.Op{Kind: oracletest.PushBlob, Repo: s.repo.String(), Digest: digest.FromBytes(content)}
		},
		do: func(ctx context.Context, s *scene) error {
			in, err := s.client.Upload(ctx, s.repo, "", digest.SHA256)
			if err != nil {
				return err
			}
			if _, err := in.Write(content); err != nil {
				return err
			}
			_, err = in.Commit(ctx, digest.FromBytes(content))
			return err
		},
	}
}

// pushChunks pushes the layer in three chunks. A failed one is gone on with, as long as
// the registry knows it.
func pushChunks(ctx context.Context, s *scene) error {
	content := s.layer()
	in, err := s.client.Upload(ctx, s.repo, s.upload, digest.SHA512)
	if errors.Is(err, origin.ErrUploadUnknown) && s.upload != "" {
		in, err = s.client.Upload(ctx, s.repo, "", digest.SHA512)
	}
	if err != nil {
		return err
	}
	for {
		s.upload = in.ID()
		rest := content[in.Size():]
		if len(rest) <= len(content)/3 {
			if _, err := in.Write(rest); err != nil {
				return err
			}
			_, err := in.Commit(ctx, digest.FromBytes(content))
			return err
		}
		if _, err := in.Write(rest[:len(content)/3]); err != nil {
			return err
		}
		if err := in.Close(); err != nil {
			return err
		}
		if in, err = s.client.Upload(ctx, s.repo, s.upload, ""); err != nil {
			return err
		}
	}
}

func pushTree(name string, tree func(*scene) origintest.Tree, tags ...string) act {
	return act{
		name: name,
		op:   func(s *scene) oracletest.Op { return oracletest.PushOf(s.repo, tree(s), tags...) },
		do: func(ctx context.Context, s *scene) error {
			o := origin.PushOptions{}
			for _, t := range tags {
				ref, err := origin.ParseTag(t)
				if err != nil {
					return err
				}
				o.Tags = append(o.Tags, ref)
			}
			_, err := s.client.Push(ctx, s.repo, tree(s).Manifest, o)
			return err
		},
	}
}

// pushed has an image with two tags, and an artifact about it.
func pushed(s *scene) []act {
	acts := append(blobs(s, s.image()), pushTree("", (*scene).image, "latest", "v1"))
	acts = append(acts, blobs(s, s.artifact())...)
	return append(acts, pushTree("", (*scene).artifact))
}

// acts are all that changes something.
var acts = []act{
	{
		name: "push a blob",
		op: func(s *scene) oracletest.Op {
			return oracletest.Op{Kind: oracletest.PushBlob, Repo: s.repo.String(), Digest: digest.FromBytes(s.layer())}
		},
		do: func(ctx context.Context, s *scene) error { return pushBlob("", s.layer()).do(ctx, s) },
	},
	{
		name: "push a blob in chunks",
		op: func(s *scene) oracletest.Op {
			return oracletest.Op{Kind: oracletest.PushBlob, Repo: s.repo.String(), Digest: digest.FromBytes(s.layer())}
		},
		do: pushChunks,
	},
	{
		name:  "push a blob that is there",
		setup: pushed,
		op: func(s *scene) oracletest.Op {
			return oracletest.Op{Kind: oracletest.PushBlob, Repo: s.other.String(), Digest: digest.FromBytes(s.layer())}
		},
		do: func(ctx context.Context, s *scene) error {
			there := &scene{client: s.client, repo: s.other}
			return pushBlob("", s.layer()).do(ctx, there)
		},
	},
	{
		name:  "mount",
		setup: pushed,
		op: func(s *scene) oracletest.Op {
			return oracletest.Op{Kind: oracletest.Mount, Repo: s.other.String(), From: s.repo.String(), Digest: digest.FromBytes(s.layer())}
		},
		do: func(ctx context.Context, s *scene) error {
			_, err := s.client.Mount(ctx, s.repo, s.other, digest.FromBytes(s.layer()))
			return err
		},
	},
	func() act {
		a := pushTree("push a manifest", (*scene).image, "latest", "v1")
		a.setup = func(s *scene) []act { return blobs(s, s.image()) }
		return a
	}(),
	func() act {
		a := pushTree("push a manifest with a subject", (*scene).artifact, "x")
		a.setup = func(s *scene) []act { return blobs(s, s.artifact()) }
		return a
	}(),
	func() act {
		a := pushTree("move tags", (*scene).newImage, "latest", "v2")
		a.setup = func(s *scene) []act { return append(pushed(s), blobs(s, s.newImage())...) }
		return a
	}(),
	func() act {
		a := pushTree("move a tag to what is there", (*scene).artifact, "latest")
		a.setup = pushed
		return a
	}(),
	{
		name:  "delete a tag",
		setup: pushed,
		op: func(s *scene) oracletest.Op {
			return oracletest.Op{Kind: oracletest.DeleteTag, Repo: s.repo.String(), Tags: []string{"v1"}}
		},
		do: func(ctx context.Context, s *scene) error {
			ref, err := origin.ParseTag("v1")
			if err != nil {
				return err
			}
			return s.client.DeleteManifest(ctx, s.repo, ref)
		},
	},
	{
		name:  "delete a manifest with tags",
		setup: func(s *scene) []act { return append(pushed(s), pushTree("", (*scene).image, "x")) },
		op: func(s *scene) oracletest.Op {
			return oracletest.Op{Kind: oracletest.DeleteManifest, Repo: s.repo.String(), Digest: s.image().Digest()}
		},
		do: func(ctx context.Context, s *scene) error {
			return s.client.DeleteManifest(ctx, s.repo, origin.ByDigest(s.image().Digest()))
		},
	},
	{
		name:  "delete a manifest with a subject",
		setup: pushed,
		op: func(s *scene) oracletest.Op {
			return oracletest.Op{Kind: oracletest.DeleteManifest, Repo: s.repo.String(), Digest: s.artifact().Digest()}
		},
		do: func(ctx context.Context, s *scene) error {
			return s.client.DeleteManifest(ctx, s.repo, origin.ByDigest(s.artifact().Digest()))
		},
	},
	{
		name:  "delete a blob",
		setup: pushed,
		op: func(s *scene) oracletest.Op {
			return oracletest.Op{Kind: oracletest.DeleteBlob, Repo: s.repo.String(), Digest: digest.FromBytes(s.layer())}
		},
		do: func(ctx context.Context, s *scene) error {
			return s.client.DeleteBlob(ctx, s.repo, digest.FromBytes(s.layer()))
		},
	},
}

// Each call to the disk fails once, in each operation. The client is told of a failure
// of the server, in the words of the specification; what there is is as before or as
// after; nothing stays open; and the same operation is done right afterwards.
func TestEveryFault(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	base := disktest.Dir(t)
	for i, a := range acts {
		for _, fault := range []error{syscall.EIO, syscall.ENOSPC, syscall.EINTR, io.ErrShortWrite} {
			t.Run(fmt.Sprint(a.name, ", ", fault), func(t *testing.T) {
				failed := 0
				for n := 0; ; n++ {
					dir := filepath.Join(base, fmt.Sprint(i, "-", n, "-", fault))
					hit, refused := hitOnce(t, dir, a, n, fault)
					if hit == "" {
						break
					}
					if refused {
						failed++
					}
					if err := os.RemoveAll(dir); err != nil {
						t.Fatal(err)
					}
				}
				if failed == 0 && fault == syscall.EIO {
					t.Error("no fault led to an error")
				}
			})
		}
	}
}

// hitOnce does an operation whose n-th call to the disk fails (a short write: its n-th
// write), and gives that call, "" if there are fewer.
func hitOnce(t *testing.T, dir string, a act, n int, fault error) (hit string, failed bool) {
	t.Helper()
	s, end := newScene(t, dir)
	defer end()
	if a.setup != nil {
		for _, before := range a.setup(s) {
			if _, err := s.act(t, before); err != nil {
				t.Fatalf("setup: %v", err)
			}
		}
	}
	files := disktest.OpenFiles(t, dir)
	seen := 0
	s.faulty.Arm(func(_ int, call string) error {
		if fault == io.ErrShortWrite && !strings.HasPrefix(call, "write ") {
			return nil
		}
		if seen++; seen != n+1 {
			return nil
		}
		hit = call
		return fault
	})
	outcome, err := s.act(t, a)
	s.faulty.Disarm()
	if hit == "" {
		if err != nil {
			t.Errorf("without a fault: %v", err)
		}
		return "", false
	}
	e, _ := errors.AsType[*origin.Error](err)
	switch {
	case outcome == oracletest.Refused, err != nil && (e == nil || e.Code == "" || e.HTTPStatus() < 500):
		t.Errorf("%s fails: answered with %v", hit, err)
	case err != nil && fault == syscall.ENOSPC && e.HTTPStatus() != http.StatusInsufficientStorage:
		t.Errorf("%s fails: a full disk is answered with %d", hit, e.HTTPStatus())
	}
	s.check(t, hit+" fails")
	if got := disktest.OpenFiles(t, dir); got != files {
		t.Errorf("%s fails: %d files are open, want %d", hit, got, files)
	}
	if err != nil {
		if _, err := s.act(t, a); err != nil {
			t.Errorf("%s fails: again: %v", hit, err)
		}
		s.check(t, hit+" fails: again")
	}
	return hit, err != nil
}

// act does an operation and notes it. That what is to be deleted is gone already is as
// good, if it may be.
func (s *scene) act(t *testing.T, a act) (oracletest.Outcome, error) {
	t.Helper()
	op := a.op(s)
	end := s.ledger.Begin(op)
	err := a.do(t.Context(), s)
	deletes := strings.HasPrefix(string(op.Kind), "delete ")
	if deletes && origin.Unknown(err) && s.ledger.Count(oracletest.Unknown) > 1 {
		err = nil
	}
	return end(err), err
}

// check compares all there is with the ledger: what the running registry says, and
// what the next one would.
func (s *scene) check(t *testing.T, what string) {
	t.Helper()
	if err := oracletest.Check(t.Context(), s.client, &s.ledger, s.world); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// newScene makes an empty registry in a new directory. At its end it is looked at once
// more by a fresh one.
func newScene(t *testing.T, dir string) (s *scene, end func()) {
	t.Helper()
	s = &scene{world: oracletest.NewWorld(1, 300)}
	s.repo, s.other = s.world.Repos[0], s.world.Repos[1]
	disks, err := disk.Open(dir, disk.Options{FS: s.faulty.FS})
	if err != nil {
		t.Fatal(err)
	}
	var panics strings.Builder
	srv := httptest.NewUnstartedServer(serve.New(over(t, disks.Blobs(), disks.Records()), serve.Options{}))
	srv.Config.ErrorLog = log.New(&panics, "", 0)
	srv.Start()
	s.client = &oracletest.HTTP{Base: srv.URL, Client: srv.Client()}
	return s, func() {
		srv.Close()
		if panics.Len() > 0 {
			t.Errorf("the server said: %s", panics.String())
		}
		if err := disks.Close(); err != nil {
			t.Error(err)
		}
		if disks, err = disk.Open(dir, disk.Options{}); err != nil {
			t.Fatal(err)
		}
		if err := oracletest.Check(t.Context(), over(t, disks.Blobs(), disks.Records()), &s.ledger, s.world); err != nil {
			t.Errorf("after a restart: %v", err)
		}
		if err := disks.Close(); err != nil {
			t.Error(err)
		}
	}
}

func over(t *testing.T, blobs store.Blobs, records store.Records) *local.Registry {
	t.Helper()
	reg, err := local.New(blobs, records, local.Options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	return reg
}
