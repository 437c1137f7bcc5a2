package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/weir-registry/weir/store"
)

// files are the objects of a bucket as files. It is bound to the one context that it was
// made with, since fs.FS has none.
type files struct {
	ctx    context.Context
	client *s3.Client
	bucket string
	prefix string // ends in a slash, or is empty
}

var (
	_ fs.ReadDirFS = (*files)(nil)
	_ fs.StatFS    = (*files)(nil)
)

// Files gives the objects below a prefix of a bucket as files, to be read until ctx ends or
// done is called: somebody else's, who keeps them so. A slash in a key makes a directory.
// Nothing is written to the bucket, and nothing asked of it yet.
func Files(ctx context.Context, o Options) (dir fs.FS, done func(), err error) {
	client, idle, err := newClient(ctx, o)
	if err != nil {
		return nil, nil, fmt.Errorf("bucket %s: %w", o.Bucket, err)
	}
	prefix := strings.Trim(o.Prefix, "/")
	if prefix != "" {
		prefix += "/"
	}
	return &files{ctx: ctx, client: client, bucket: o.Bucket, prefix: prefix}, idle, nil
}

// fail names what an operation was about.
func fail(op, name string, err error) error {
	err = missing(err)
	if errors.Is(err, store.ErrNotFound) || code(err) == "NotFound" {
		err = fs.ErrNotExist
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// Open implements fs.FS, for files alone.
func (f *files) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) || name == "." {
		return nil, fail("open", name, fs.ErrInvalid)
	}
	out, err := f.client.GetObject(f.ctx, &s3.GetObjectInput{Bucket: &f.bucket, Key: aws.String(f.prefix + name)})
	if err != nil {
		return nil, fail("open", name, err)
	}
	return &opened{out.Body, entry{name: path.Base(name), size: aws.ToInt64(out.ContentLength), modified: aws.ToTime(out.LastModified)}}, nil
}

// Stat implements fs.StatFS.
func (f *files) Stat(name string) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, fail("stat", name, fs.ErrInvalid)
	}
	if name != "." {
		out, err := f.client.HeadObject(f.ctx, &s3.HeadObjectInput{Bucket: &f.bucket, Key: aws.String(f.prefix + name)})
		if err == nil {
			return entry{name: path.Base(name), size: aws.ToInt64(out.ContentLength), modified: aws.ToTime(out.LastModified)}, nil
		}
		if err = fail("stat", name, err); !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	out, err := f.client.ListObjectsV2(f.ctx, &s3.ListObjectsV2Input{Bucket: &f.bucket, Prefix: aws.String(f.below(name)), MaxKeys: aws.Int32(1)})
	if err == nil && len(out.Contents) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fail("stat", name, err)
	}
	return entry{name: path.Base(name), dir: true}, nil
}

// below is what the keys in a directory begin with.
func (f *files) below(name string) string {
	if name == "." {
		return f.prefix
	}
	return f.prefix + name + "/"
}

// ReadDir implements fs.ReadDirFS. A directory is there if something is in it.
func (f *files) ReadDir(name string) ([]fs.DirEntry, error) {
	if !fs.ValidPath(name) {
		return nil, fail("readdir", name, fs.ErrInvalid)
	}
	prefix := f.below(name)
	var entries []fs.DirEntry
	pages := s3.NewListObjectsV2Paginator(f.client, &s3.ListObjectsV2Input{Bucket: &f.bucket, Prefix: &prefix, Delimiter: aws.String("/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(f.ctx)
		if err != nil {
			return nil, fail("readdir", name, err)
		}
		for _, p := range page.CommonPrefixes {
			entries = append(entries, entry{name: path.Base(aws.ToString(p.Prefix)), dir: true})
		}
		for _, o := range page.Contents {
			if key := aws.ToString(o.Key); key != prefix { // which some programs make for a directory
				entries = append(entries, entry{name: path.Base(key), size: aws.ToInt64(o.Size), modified: aws.ToTime(o.LastModified)})
			}
		}
	}
	if len(entries) == 0 {
		return nil, fail("readdir", name, fs.ErrNotExist)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// opened is a file that is read.
type opened struct {
	io.ReadCloser
	entry entry
}

func (o *opened) Stat() (fs.FileInfo, error) { return o.entry, nil }

// entry describes a file or a directory.
type entry struct {
	name     string
	size     int64
	modified time.Time
	dir      bool
}

func (e entry) Name() string               { return e.name }
func (e entry) Size() int64                { return e.size }
func (e entry) ModTime() time.Time         { return e.modified }
func (e entry) IsDir() bool                { return e.dir }
func (e entry) Type() fs.FileMode          { return e.Mode().Type() }
func (e entry) Info() (fs.FileInfo, error) { return e, nil }
func (e entry) Sys() any                   { return nil }

func (e entry) Mode() fs.FileMode {
	if e.dir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}
