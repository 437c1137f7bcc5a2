package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// hoard fills the directory of a store that is on disk with images of small blobs, by
// files: a push each would take an hour. weir itself writes the first image, and what it
// writes for that is the pattern for all others: a record of a link and one of a
// repository as they are, that of a manifest with other bytes at its end, and so with
// another sum. Nothing is synced for each file, and each is one of its own.
func (t *trial) hoard(ctx context.Context, images int) error {
	p, err := t.pattern(ctx)
	if err != nil {
		return err
	}
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(8)
	for first := 0; first < images; first += gcRepo {
		all.Go(func() error {
			repo := fmt.Sprintf("hoard%d", first/gcRepo)
			if err := p.begin(repo); err != nil {
				return err
			}
			for n := first; n < min(first+gcRepo, images); n++ {
				if err := errors.Join(ctx.Err(), p.image(repo, n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all.Wait()
}

const (
	patternRepo  = "pattern"
	patternImage = 400 // its number among the data
)

// A pattern is what weir's files for one image look like.
type pattern struct {
	root       string // of the store
	link, repo []byte // records
	version    string // of a manifest's record
	head       []byte // of its data: what stands before the manifest's own bytes
}

// pattern has weir write an image, and reads what it wrote.
func (t *trial) pattern(ctx context.Context) (pattern, error) {
	p := pattern{root: filepath.Join(t.scratch, "data")}
	i, err := t.data.image(patternImage, kB, 1)
	if err != nil {
		return p, err
	}
	if err := t.start(ctx, "", 0); err != nil {
		return p, err
	}
	c := newClient(t.running.addr)
	err = c.push(ctx, patternRepo, i.digest.String(), i)
	c.close()
	if err := errors.Join(err, t.stop()); err != nil {
		return p, err
	}
	var errs [3]error
	p.link, errs[0] = os.ReadFile(p.record(patternRepo, "_b", i.layers()[0].digest))
	text, err := os.ReadFile(p.record(patternRepo, "_m", i.digest))
	errs[1] = err
	p.repo, errs[2] = os.ReadFile(p.ofRepo(patternRepo))
	if err := errors.Join(errs[:]...); err != nil {
		return p, err
	}
	first, data, _ := bytes.Cut(text, []byte("\n"))
	p.version, _, _ = strings.Cut(string(first), " ")
	p.head, _ = bytes.CutSuffix(data, i.manifest)
	if !bytes.Equal(p.ofManifest(i.manifest), text) {
		return p, errors.New("the record of a manifest is not written as it is here")
	}
	return p, nil
}

// ofManifest is the record of a manifest: a line with its version and a sum of that and the
// data, then the data.
func (p pattern) ofManifest(manifest []byte) []byte {
	table := crc32.MakeTable(crc32.Castagnoli)
	data := append(bytes.Clone(p.head), manifest...)
	sum := crc32.Update(crc32.Checksum([]byte(p.version), table), table, data)
	return append(fmt.Appendf(nil, "%s %08x\n", p.version, sum), data...)
}

func (p pattern) below(repo, kind string) string {
	return filepath.Join(p.root, "records", "r", repo, kind, "sha256")
}

func (p pattern) record(repo, kind string, d digest.Digest) string {
	return filepath.Join(p.below(repo, kind), d.Encoded())
}

func (p pattern) ofRepo(repo string) string {
	return filepath.Join(p.root, "records", "r", "_repos", repo, "_")
}

// begin makes a repository without anything in it.
func (p pattern) begin(repo string) error {
	return errors.Join(
		os.MkdirAll(p.below(repo, "_b"), 0o755), os.MkdirAll(p.below(repo, "_m"), 0o755),
		os.MkdirAll(filepath.Dir(p.ofRepo(repo)), 0o755), os.WriteFile(p.ofRepo(repo), p.repo, 0o600))
}

// image makes the n-th image, and of one in so many the blobs alone.
func (p pattern) image(repo string, n int) error {
	blobs := make([]chunk, gcImage)
	for k := range blobs {
		text := fmt.Appendf(nil, "blob %d of image %d\n", k, n)
		d := digest.FromBytes(text)
		blobs[k] = chunk{n: int64(len(text)), digest: d}
		if err := errors.Join(
			os.WriteFile(filepath.Join(p.root, "blobs", "sha256", d.Encoded()), text, 0o600),
			os.WriteFile(p.record(repo, "_b", d), p.link, 0o600)); err != nil {
			return err
		}
	}
	if n%gcGarbage == 0 {
		return nil
	}
	i, err := newImage(blobs, "", nil)
	if err != nil {
		return err
	}
	return os.WriteFile(p.record(repo, "_m", i.digest), p.ofManifest(i.manifest), 0o600)
}
