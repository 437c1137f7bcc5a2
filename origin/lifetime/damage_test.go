package lifetime_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/s3"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// spoiled is a registry whose files are spoiled while nobody has it open.
type spoiled struct {
	*local.Registry
	t     *testing.T
	dir   string
	open  func() *local.Registry
	shut  func()
	scrub lifetime.ScrubOptions
}

// spoiledOnDisk and spoiledInBucket say where it may be.
func spoiledOnDisk(t *testing.T) *spoiled {
	x := &spoiled{t: t, dir: t.TempDir()}
	x.open = func() *local.Registry {
		s, err := disk.Open(x.dir, disk.Options{})
		if err != nil {
			t.Fatal(err)
		}
		x.shut = func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		return open(t, s.Blobs(), s.Records(), true)
	}
	x.Registry = x.open()
	t.Cleanup(func() { x.shut() })
	return x
}

func spoiledInBucket(t *testing.T, server *s3test.Server) *spoiled {
	o := s3.Options{
		Bucket: server.Bucket(t), Endpoint: server.URL, PathStyle: true,
		AccessKeyID: s3test.AccessKey, SecretAccessKey: func() (string, error) { return s3test.SecretKey, nil }, Spool: t.TempDir(),
	}
	x := &spoiled{t: t, dir: filepath.Join(server.Dir, o.Bucket), shut: func() {}}
	x.open = func() *local.Registry {
		s, err := s3.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return open(t, s.Blobs(), s.Records(), true)
	}
	x.Registry = x.open()
	return x
}

// spoil has something done to the one record whose key contains that, and opens the
// registry anew.
func (x *spoiled) spoil(key string, how func(name string) error) {
	x.t.Helper()
	x.shut()
	x.Registry = x.open() // what was in logs is in files
	x.shut()
	var found []string
	err := filepath.WalkDir(x.dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(name, key) && !strings.Contains(name, ".sgwtmp") {
			found = append(found, name)
		}
		return err
	})
	if err == nil && len(found) != 1 {
		x.t.Fatalf("%d files of %s", len(found), key)
	}
	if err = errors.Join(err, how(found[0])); err != nil {
		x.t.Fatal(err)
	}
	x.Registry = x.open()
}

func (x *spoiled) run(repair bool) (lifetime.ScrubReport, error) {
	return lifetime.NewScrubber(x, x.scrub).Run(x.t.Context(), repair, false)
}

// bit flips one in the last third, which is of the content; cut takes that away.
func bit(name string) error {
	data, err := os.ReadFile(name)
	if err == nil {
		data[len(data)-1-len(data)/3] ^= 1
		err = os.WriteFile(name, data, 0o600)
	}
	return err
}

func cut(name string) error {
	fi, err := os.Stat(name)
	if err == nil {
		err = os.Truncate(name, fi.Size()-1-fi.Size()/3)
	}
	return err
}

// What a store has spoiled of a manifest, a tag or what stands beside them is never given;
// what can be derived is there again after a scrub, and what cannot is named until it is
// pushed again, and nothing is collected that it may need.
func TestDamagedRecords(t *testing.T) {
	damage := map[string]func(string) error{"a bit": bit, "its end": cut, "all of it": os.Remove}
	image := origintest.Image([]byte("{}"), []byte("a layer"))
	about := origintest.Artifact(image.Manifest.Descriptor.Descriptor, "application/sig", nil, []byte("about"))
	hex := func(d digest.Digest) string { return strings.Replace(d.String(), ":", "/", 1) }
	server := s3test.Start(t)
	for where, at := range map[string]func(*testing.T) *spoiled{
		"disk":   spoiledOnDisk,
		"bucket": func(t *testing.T) *spoiled { return spoiledInBucket(t, server) },
	} {
		for what, how := range damage {
			if where == "bucket" && what != "a bit" {
				continue // a bucket's files are not ours to cut
			}
			for _, c := range []struct {
				name, key string
				mended    bool          // by a scrub alone
				lost      digest.Digest // or else this is named
			}{
				{"a manifest", "/r/a/_m/" + hex(image.Digest()), false, image.Digest()},
				{"a referrer's manifest", "/r/a/_m/" + hex(about.Digest()), false, named(what != "all of it", about.Digest())},
				{"a referrer's entry", "/r/a/_r/" + hex(image.Digest()) + "/" + hex(about.Digest()), true, ""},
				{"a tag", "/r/a/_t/x", what != "all of it", ""},
				{"a link", "/r/a/_b/" + hex(image.Blobs[1].Digest), what != "all of it", ""},
				{"the repository", "/r/_repos/a/_", what == "all of it", ""},
			} {
				t.Run(where+"/"+what+" of "+c.name, func(t *testing.T) {
					x := at(t)
					ctx, a := t.Context(), repo(t, "a")
					image.Push(t, x, "a", "x")
					about.Push(t, x, "a")
					x.spoil(c.key, how)
					tag := origintest.Ref(t, "x")
					right := func() error {
						d, err := x.Resolve(ctx, a, tag)
						if err == nil && d.Digest != image.Digest() {
							err = errors.New("the tag names something else")
						}
						return errors.Join(err, pulls(ctx, x, a, image), referred(ctx, x, a, image.Digest(), about.Digest()))
					}
					head, headErr := x.Resolve(ctx, a, tag)
					m, err := x.Manifest(ctx, a, tag)
					if (headErr == nil) != (err == nil) || head.Digest != m.Digest {
						t.Errorf("HEAD and GET differ: %v, %v", headErr, err)
					}
					if err == nil && (m.Digest != image.Digest() || string(m.Bytes) != string(image.Manifest.Bytes)) {
						t.Errorf("another manifest is given: %s", m.Bytes)
					} else if got, ok := errors.AsType[*origin.Error](err); err != nil && (!ok || got.HTTPStatus() != 404) {
						t.Errorf("a client is told %v", err)
					}
					rep, err := x.run(false)
					switch {
					case c.lost != "":
						if !errors.Is(err, lifetime.ErrCorrupt) || len(rep.Corrupt) != 1 || rep.Corrupt[0].Digest != c.lost || !slices.Equal(rep.Corrupt[0].Repositories, []string{"a"}) {
							t.Errorf("%+v, %v", rep, err)
						}
					case err != nil:
						t.Errorf("%+v, %v", rep, err)
					case c.mended:
						if rep.Mended != 1 {
							t.Errorf("%+v", rep)
						}
						if err := right(); err != nil {
							t.Error(err)
						}
					}
					image.Push(t, x, "a", "x")
					about.Push(t, x, "a")
					if err := right(); err != nil {
						t.Errorf("when it was pushed again: %v", err)
					}
					if rep, err := x.run(true); err != nil || len(rep.Corrupt) != 0 {
						t.Errorf("when it was pushed again: %+v, %v", rep, err)
					}
				})
			}
		}
	}
}

// named is a digest, if a scrub names it: that only an entry among referrers speaks of a manifest
// may be since its push was killed.
func named(so bool, d digest.Digest) digest.Digest {
	if !so {
		return ""
	}
	return d
}

// referred wants that a referrer is listed.
func referred(ctx context.Context, r origin.Reader, repo origin.Repo, subject, d digest.Digest) error {
	l, err := r.Referrers(ctx, repo, subject, "", origin.Page{N: 10})
	if err == nil && (len(l.Items) != 1 || l.Items[0].Digest != d || l.Items[0].ArtifactType != "application/sig") {
		err = errors.New("it is not among the referrers")
	}
	return err
}
