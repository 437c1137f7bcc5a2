package config

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
)

const (
	// leastS3Part and mostS3Part are what S3 allows of a part.
	leastS3Part = 5 << 20
	mostS3Part  = 5 << 30
	// mostRedirectTTL is how long S3 lets a signed address hold.
	mostRedirectTTL = Duration(7 * 24 * time.Hour)
	// mostPrefix leaves the names of repositories and tags the room that they need in a
	// key, in bytes.
	mostPrefix = 256
)

// complete lets records be where blobs are, unless they have a place of their own. Where
// there is a bucket, the directory that would be taken otherwise is not.
func (s *Store) complete() {
	if s.Blobs.S3.Bucket != "" && s.Blobs.Filesystem.Root == defaultRoot {
		s.Blobs.Filesystem.Root = ""
	}
	if s.Metadata.Filesystem.Root == "" && s.Metadata.S3.Bucket == "" && s.Metadata.S3.quiet() {
		s.Metadata = s.Blobs
	}
	if s.Metadata.Filesystem.is(s.Blobs.Filesystem) {
		s.Metadata.Filesystem.Root = s.Blobs.Filesystem.Root // one directory is one store, however it is spelled
	}
}

// quiet reports whether nothing is said of a bucket.
func (s S3) quiet() bool { return reflect.DeepEqual(s, defaultS3()) }

func (v *validator) store(s *Store) {
	v.backend("store.blobs", s.Blobs)
	v.backend("store.metadata", s.Metadata)
}

func (v *validator) backend(path string, b Backend) {
	root := b.Filesystem.Root
	switch {
	case b.S3.Bucket != "" && root != "":
		v.fail(path+".filesystem.root", "is set, and so is %s.s3.bucket: keep one", path)
	case b.S3.Bucket == "" && !b.S3.quiet():
		v.fail(path+".s3.bucket", "is not set, and other keys of %s.s3 are: name the bucket", path)
		return
	case b.S3.Bucket == "" && root == "":
		v.fail(path+".filesystem.root", "is empty: name a directory")
	}
	v.directory(path+".filesystem.root", root)
	if b.S3.Bucket != "" {
		v.bucket(path+".s3", b.S3)
	}
}

// directory examines the name of one that is made where it is not there.
func (v *validator) directory(path, name string) {
	if strings.ContainsRune(name, 0) {
		v.fail(path, "holds a NUL byte")
		return
	}
	if info, err := os.Stat(name); err == nil && !info.IsDir() {
		v.fail(path, "is %s: it is no directory", name)
	}
}

func (v *validator) bucket(path string, s S3) {
	if strings.ContainsFunc(s.Bucket, func(r rune) bool {
		return (r < 'a' || 'z' < r) && (r < 'A' || 'Z' < r) && (r < '0' || '9' < r) && !strings.ContainsRune(".-_", r)
	}) {
		v.fail(path+".bucket", "is %s, which is no bucket's name: what is inside of it goes into prefix", s.Bucket)
	}
	prefix := strings.Trim(s.Prefix, "/")
	parts := strings.Split(prefix, "/")
	if prefix != "" && (slices.Contains(parts, "") || slices.Contains(parts, ".") || slices.Contains(parts, "..")) {
		v.fail(path+".prefix", "is %s: its parts are names, with one slash between them", s.Prefix)
	}
	if len(s.Prefix) > mostPrefix {
		v.fail(path+".prefix", "has %d bytes: %d are the most", len(s.Prefix), mostPrefix)
	}
	switch {
	case s.AccessKeyID != "" && s.SecretAccessKey.IsZero():
		v.fail(path+".access_key_id", "is set, and secret_access_key is not: set both, or neither for AWS's default chain")
	case s.AccessKeyID == "" && !s.SecretAccessKey.IsZero():
		key := path + ".secret_access_key"
		if s.SecretAccessKey.File() != "" {
			key += fileSuffix
		}
		v.fail(key, "is set, and access_key_id is not: set both, or neither for AWS's default chain")
	}
	if s.SecretAccessKey.File() != "" {
		v.readable(path+".secret_access_key"+fileSuffix, s.SecretAccessKey.File())
	}
	if s.PartSize < leastS3Part || s.PartSize > mostS3Part {
		v.fail(path+".part_size", "is %s: S3 allows 5MiB to 5GiB", s.PartSize)
	}
	if s.RedirectTTL <= 0 || s.RedirectTTL > mostRedirectTTL {
		v.fail(path+".redirect_ttl", "is %s: S3 allows more than 0s, up to 7d", s.RedirectTTL)
	}
	v.directory(path+".spool", s.Spool)
}
