package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/origin"
)

// Where Distribution keeps what it has, below its rootdirectory (its storage layout,
// version 2): a file for the bytes of each digest, and in each repository, a link (a file
// that holds a digest) to each blob, each manifest and what each tag names. What is
// deleted loses its link's file, and the directory that it was in stays.
const (
	distributionRoot  = "docker/registry/v2"
	distributionBlobs = distributionRoot + "/blobs"
	distributionRepos = distributionRoot + "/repositories"
	layersDir         = "_layers"
	revisionsDir      = "_manifests/revisions"
	tagsDir           = "_manifests/tags"
	linkFile          = "link"
	dataFile          = "data"
)

// ErrNoRegistry says that a directory does not hold what it is said to hold.
var ErrNoRegistry = errors.New("no registry")

// Distribution takes over the storage of CNCF Distribution into to: all repositories, with
// the manifests that no tag names. dir is its rootdirectory. name gives the repository
// that one of the source becomes, or an error why it is not taken. What no manifest names
// stays where it is, and is counted.
//
// What is not taken is shown and counted; an error ends the import. Errors: ErrNoRegistry.
func Distribution(ctx context.Context, dir fs.FS, to Registry, name func(origin.Repo) (origin.Repo, error), o Options) (Summary, error) {
	t := newTaker(to, o)
	if fi, err := fs.Stat(dir, distributionRoot); errors.Is(err, fs.ErrNotExist) || err == nil && !fi.IsDir() {
		return t.sum, fmt.Errorf("%w: there is no %s in it", ErrNoRegistry, distributionRoot)
	} else if err != nil {
		return t.sum, err
	}
	err := repositories(ctx, dir, "", func(found string) error {
		repo, err := origin.ParseRepo(found)
		if err == nil {
			repo, err = name(repo)
		}
		if err != nil {
			t.failed(found, told(err))
			return nil
		}
		d := &distribution{dir: dir, name: found, largest: o.MaxManifestSize}
		return d.take(ctx, &intake{taker: t, repo: repo, from: d})
	})
	return t.sum, err
}

// repositories calls take with each repository below the path, in the order of names.
func repositories(ctx context.Context, dir fs.FS, below string, take func(name string) error) error {
	entries, err := list(dir, path.Join(distributionRepos, below))
	if err != nil {
		return err
	}
	is := false
	for _, name := range entries {
		is = is || name == "_manifests" || name == layersDir
	}
	if is && below != "" {
		if err := take(below); err != nil {
			return err
		}
	}
	for _, name := range entries {
		if strings.HasPrefix(name, "_") {
			continue
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := repositories(ctx, dir, path.Join(below, name), take); err != nil {
			return err
		}
	}
	return nil
}

// list gives the names of the directories in one; one that is not there has none.
func list(dir fs.FS, name string) ([]string, error) {
	entries, err := fs.ReadDir(dir, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// distribution is one repository of a storage.
type distribution struct {
	dir     fs.FS
	name    string // as it is called there
	largest int64  // bytes of a manifest
}

func (d *distribution) path(elem ...string) string {
	return path.Join(distributionRepos, d.name, path.Join(elem...))
}

// take takes the repository: manifests, then tags.
func (d *distribution) take(ctx context.Context, in *intake) error {
	before := in.sum
	revisions, err := d.digests(revisionsDir)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(atATime)
	for _, rev := range revisions {
		if _, err := fs.Stat(d.dir, d.path(revisionsDir, rev.Algorithm().String(), rev.Encoded(), linkFile)); errors.Is(err, fs.ErrNotExist) {
			continue // it was deleted
		}
		group.Go(func() error {
			if err := in.manifest(ctx, rev, "", deepest); err != nil && ctx.Err() == nil {
				in.failed(d.name+"@"+rev.String(), err)
			}
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := d.tags(ctx, in); err != nil {
		return err
	}
	layers, err := d.digests(layersDir)
	if err != nil {
		return err
	}
	for _, l := range layers {
		if !in.blobs.has(l) {
			in.sum.Unnamed++
		}
	}
	in.opts.Show.Done(in.repo.String(), "", in.sum.less(before))
	return nil
}

func (d *distribution) tags(ctx context.Context, in *intake) error {
	names, err := list(d.dir, d.path(tagsDir))
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(atATime)
	for _, name := range names {
		group.Go(func() error {
			if err := d.tag(ctx, in, name); err != nil && ctx.Err() == nil {
				in.failed(d.name+":"+name, err)
			}
			return context.Cause(ctx)
		})
	}
	return group.Wait()
}

func (d *distribution) tag(ctx context.Context, in *intake, name string) error {
	names, err := d.link(tagsDir, name, "current")
	if err != nil {
		return err
	}
	if !in.manifests.has(names) {
		return fmt.Errorf("names manifest %s, which the repository does not have", names)
	}
	if err := in.manifest(ctx, names, "", deepest); err != nil { // which was taken, or not, before
		return fmt.Errorf("names manifest %s, which is not taken", names)
	}
	return in.tag(ctx, name, names)
}

// digests gives the digests that directories below one are named by.
func (d *distribution) digests(below string) ([]digest.Digest, error) {
	var found []digest.Digest
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		names, err := list(d.dir, d.path(below, alg.String()))
		if err != nil {
			return nil, err
		}
		for _, hex := range names {
			if parsed, err := origin.ParseDigest(alg.String() + ":" + hex); err == nil {
				found = append(found, parsed)
			}
		}
	}
	return found, nil
}

// link reads a link. Errors: errNotThere.
func (d *distribution) link(elem ...string) (digest.Digest, error) {
	f, err := d.dir.Open(path.Join(d.path(elem...), linkFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("its link %w", errNotThere)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	const longest = 256
	b, err := io.ReadAll(io.LimitReader(f, longest))
	if err != nil {
		return "", err
	}
	return parseLink(b)
}

// parseLink reads what a link's file holds: a digest.
func parseLink(b []byte) (digest.Digest, error) {
	d, err := origin.ParseDigest(strings.TrimSpace(string(b)))
	if err != nil {
		return "", fmt.Errorf("its link is corrupt: it holds %s", origin.Quote(string(b)))
	}
	return d, nil
}

// open opens what a link leads to. The link may lead to another digest, by which the same
// bytes are kept.
func (d *distribution) open(kind string, named digest.Digest) (fs.File, error) {
	at, err := d.link(kind, named.Algorithm().String(), named.Encoded())
	if err != nil {
		return nil, err
	}
	hex := at.Encoded()
	f, err := d.dir.Open(path.Join(distributionBlobs, at.Algorithm().String(), hex[:2], hex, dataFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("its content %w", errNotThere)
	}
	return f, err
}

// manifest implements source.
func (d *distribution) manifest(_ context.Context, named digest.Digest) ([]byte, error) {
	f, err := d.open(revisionsDir, named)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readManifest(f, named, d.largest)
}

// blob implements source.
func (d *distribution) blob(_ context.Context, named digest.Digest) (fs.File, error) {
	return d.open(layersDir, named)
}

// readManifest reads at most largest bytes, and wants that they have the digest.
func readManifest(r io.Reader, d digest.Digest, largest int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, largest+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > largest:
		return nil, fmt.Errorf("is larger than %d bytes (origin.max_manifest_size)", largest)
	case d.Algorithm().FromBytes(b) != d:
		return nil, errCorrupt
	}
	return b, nil
}
