package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// What the S3 server and all who use it are told. It listens on loopback.
const (
	bucketName = "registry"
	accessKey  = "weirbench"
	secretKey  = "weirbenchsecret"
)

// onBucket makes a row that servers do on S3: one S3 server is started for each trial, and
// ended after the registry. With redirect, clients are sent to it for blobs.
func onBucket(redirect bool, run func(context.Context, *trial) (values, error)) func(context.Context, *trial) (values, error) {
	return func(ctx context.Context, t *trial) (values, error) {
		if err := t.startBucket(ctx); err != nil {
			return nil, err
		}
		config := distributionBucket
		if t.name == weir {
			config = weirBucket
		}
		// docker-registry does not start where the machine has authorities of its own for AWS.
		t.env = append(slices.Clip(t.env), "AWS_CA_BUNDLE=")
		endpoint := "http://" + t.bucket.addr
		t.config = func(p place) string { return config(p, endpoint, redirect) }
		return run(ctx, t)
	}
}

// startBucket runs an S3 server over a directory, with one empty bucket.
func (t *trial) startBucket(ctx context.Context) error {
	program, err := locate(ctx, server{tool: "versitygw"}, t.tools)
	if err != nil {
		return err
	}
	p := place{dir: filepath.Join(t.scratch, "s3")}
	if p.addr, err = freeAddr(); err != nil {
		return err
	}
	users := filepath.Join(p.dir, "iam")
	if err := errors.Join(os.MkdirAll(users, 0o700), os.MkdirAll(filepath.Join(p.dir, "data", bucketName), 0o700)); err != nil {
		return err
	}
	t.bucket, err = start(ctx, server{
		name: "versitygw", program: program,
		argv: func(p place, _ string) []string {
			return []string{
				"--port", p.addr, "--access", accessKey, "--secret", secretKey, "--iam-dir", users,
				"posix", filepath.Join(p.dir, "data"),
			}
		},
	}, p)
	return err
}

// weirBucket keeps all in the bucket, and sends clients there if redirect says so.
func weirBucket(p place, endpoint string, redirect bool) string {
	public := ""
	if redirect {
		public = fmt.Sprintf(", public_endpoint: %q", endpoint)
	}
	return fmt.Sprintf(`log: {format: json}
server: {listen: %q}
admin: {listen: %q}
store:
  blobs:
    s3: {bucket: %s, prefix: weir, endpoint: %q%s, path_style: true, access_key_id: %s, secret_access_key: %s, spool: %q}
`, p.addr, p.admin, bucketName, endpoint, public, accessKey, secretKey, filepath.Join(p.dir, "spool"))
}

// distributionBucket is distributionConfig on a bucket.
func distributionBucket(p place, endpoint string, redirect bool) string {
	return fmt.Sprintf(`version: 0.1
log: {fields: {service: registry}}
storage:
  cache: {blobdescriptor: inmemory}
  s3: {accesskey: %s, secretkey: %s, region: us-east-1, regionendpoint: %q, bucket: %s, secure: false, v4auth: true, rootdirectory: /distribution}
  redirect: {disable: %t}
  delete: {enabled: true}
http: {addr: %q}
`, accessKey, secretKey, endpoint, bucketName, !redirect, p.addr)
}

// mostParts gives of how many parts the object was made that has most of them: it ends
// the ETag of one that was uploaded in parts.
func (t *trial) mostParts() (most int, err error) {
	err = filepath.WalkDir(filepath.Join(t.bucket.dir, "data", bucketName), func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		var text [256]byte
		n, err := syscall.Getxattr(name, "user.etag", text[:])
		if errors.Is(err, syscall.ENODATA) {
			return nil // the server's own
		}
		if err != nil {
			return fmt.Errorf("ETag of %s: %w", name, err)
		}
		parts, err := parseETag(string(text[:n]))
		most = max(most, parts)
		return err
	})
	return most, err
}

// parseETag gives how many parts an object was uploaded in; 0: it was not.
func parseETag(text string) (parts int, err error) {
	_, count, inParts := strings.Cut(strings.Trim(text, `"`), "-")
	if !inParts {
		return 0, nil
	}
	if parts, err = strconv.Atoi(count); err != nil {
		return 0, fmt.Errorf("ETag %q: %w", text, err)
	}
	return parts, nil
}
