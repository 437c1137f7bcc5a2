package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/distribution/reference"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/importer"
	"github.com/weir-registry/weir/store/s3"
)

// importJob is what an import is told. Its paths are absolute.
type importJob struct {
	From      string `json:"from,omitempty"`       // the storage of a Distribution: a directory, or s3://BUCKET/PREFIX
	Endpoint  string `json:"endpoint,omitempty"`   // of the bucket; "" = AWS
	PathStyle bool   `json:"path_style,omitempty"` // puts the bucket into the path
	Layout    string `json:"layout,omitempty"`     // or an OCI image layout
	Name      string `json:"name,omitempty"`       // where what has no whole name goes
	Seen      sight  `json:"seen,omitzero"`        // of the directory
}

// exportJob is what an export is told.
type exportJob struct {
	Layout string   `json:"layout"` // an absolute path
	Images []string `json:"images"`
	Seen   sight    `json:"seen,omitzero"` // of the layout
}

// importFiles is the job of weir import: its result is an importer.Summary.
func (a *app) importFiles(ctx context.Context, told json.RawMessage, say func(line string)) (any, error) {
	var job importJob
	if err := json.Unmarshal(told, &job); err != nil {
		return nil, err
	}
	if err := job.Seen.same(); err != nil {
		return nil, err
	}
	return a.runImport(ctx, job, &teller{say: say})
}

// runImport takes over what the job says into the registry of a.
func (a *app) runImport(ctx context.Context, job importJob, show importer.Show) (importer.Summary, error) {
	options := importer.Options{MaxManifestSize: int64(a.config.Origin.MaxManifestSize), Show: show}
	if job.From != "" {
		options.Linker = a.linker
		dir, done, err := openStorage(ctx, job)
		if err != nil {
			return importer.Summary{}, err
		}
		defer done()
		sum, err := importer.Distribution(ctx, dir, a.mirror.Here(), a.importedName, options)
		return sum, about(job.From, err)
	}
	names := importer.Names{Parse: a.wholeName}
	if job.Name != "" {
		var err error
		if names.Rest, err = a.wholeName(job.Name); err != nil {
			return importer.Summary{}, err
		}
	}
	dir, err := openSource(job.Layout)
	if err != nil {
		return importer.Summary{}, err
	}
	sum, err := importer.Layout(ctx, dir, a.mirror.Here(), names, options)
	return sum, about(job.Layout, err)
}

// bucketScheme begins the name of a bucket.
const bucketScheme = "s3://"

// openStorage opens a directory or a bucket. The credentials of the bucket are those of
// AWS's default chain, in the environment of the process that does the job.
func openStorage(ctx context.Context, job importJob) (dir fs.FS, done func(), err error) {
	name, ok := strings.CutPrefix(job.From, bucketScheme)
	if !ok {
		dir, err = openSource(job.From)
		return dir, func() {}, err
	}
	bucket, prefix, _ := strings.Cut(name, "/")
	return s3.Files(ctx, s3.Options{Bucket: bucket, Prefix: prefix, Endpoint: job.Endpoint, PathStyle: job.PathStyle})
}

// openSource opens a directory that is imported.
func openSource(name string) (fs.FS, error) {
	fi, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !fi.IsDir():
		return nil, fmt.Errorf("%s is a file, not a directory: what is packed is unpacked first", name)
	default:
		return os.DirFS(name), nil
	}
}

// about names the directory that an error is about.
func about(dir string, err error) error {
	switch {
	case errors.Is(err, importer.ErrNoRegistry):
		return fmt.Errorf("%s holds %w", dir, err)
	case errors.Is(err, importer.ErrNoLayout):
		return fmt.Errorf("%s holds %w", dir, err)
	case errors.Is(err, importer.ErrExporting):
		return fmt.Errorf("%s: %w", dir, err)
	default:
		return err
	}
}

// exportFiles is the job of weir export: its result is how many images failed.
func (a *app) exportFiles(ctx context.Context, told json.RawMessage, say func(line string)) (any, error) {
	var job exportJob
	if err := json.Unmarshal(told, &job); err != nil {
		return nil, err
	}
	if err := job.Seen.same(); err != nil {
		return nil, err
	}
	return a.runExport(ctx, job, &teller{say: say})
}

// runExport puts images into a layout, and gives how many were not.
func (a *app) runExport(ctx context.Context, job exportJob, show importer.Show) (failed int, err error) {
	var images []importer.Image
	for _, name := range job.Images {
		x, err := a.exported(ctx, name)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		images = append(images, x)
	}
	failed, err = importer.Export(ctx, a.mirror.Here(), job.Layout, images, show)
	return failed, about(job.Layout, err)
}

// exported says which image a name means here.
func (a *app) exported(ctx context.Context, name string) (importer.Image, error) {
	repo, ref, err := findImage(name, a.table, a.config)
	if err != nil {
		return importer.Image{}, err
	}
	repo, upstream, err := a.mirror.Locate(ctx, repo, false)
	whole := repo.String()
	if upstream != "" {
		whole = upstream + "/" + repo.Rest().String()
	}
	return importer.Image{Name: name, Whole: whole, Repo: repo, Ref: ref}, err
}

// importedName is what a repository of another registry is called here: the same.
func (a *app) importedName(repo origin.Repo) (origin.Repo, error) { return a.table.Name("", "", repo) }

// wholeName reads the whole name of an image, which is not taken to have the tag latest
// where it has none. The name of a registry that is neither this one nor an upstream of
// it stays in front of the repository's.
func (a *app) wholeName(whole string) (importer.Name, error) {
	var n importer.Name
	bad := origin.Errorf(origin.ErrNameInvalid, "%s is not the name of an image", origin.Quote(whole))
	parsed, err := reference.Parse(whole)
	if err != nil {
		return n, origin.Wrap(bad, err)
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		return n, bad
	}
	if t, ok := parsed.(reference.Tagged); ok {
		n.Tag = t.Tag()
	}
	if d, ok := parsed.(reference.Digested); ok {
		if n.Digest, err = origin.ParseDigest(d.Digest().String()); err != nil {
			return n, err
		}
	}
	host, path := splitHost(named.Name())
	if host == "" || ours(host, a.config) {
		if n.Repo, err = origin.ParseRepo(path); err == nil {
			n.Repo, err = a.table.Name("", "", n.Repo)
		}
		return n, err
	}
	repo, err := origin.ParseRepo(path)
	if err != nil {
		return n, err
	}
	n.Repo, err = a.table.Name("", host, repo)
	if errors.Is(err, origin.ErrNameUnknown) {
		n.Repo, err = repo.Under(config.PathOf(host))
	}
	return n, err
}
