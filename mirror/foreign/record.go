package foreign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Records are named deposit/<repository>/_m/<alg>/<hex>, one for each manifest that
// waits: a line that says of it what its bytes do not, and these.

const recordRoot = "deposit"

func (k blobKey) record() string {
	return recordRoot + "/" + k.repo.String() + "/_m/" + k.digest.Algorithm().String() + "/" + k.digest.Encoded()
}

// parseRecord reads the name of a record.
func parseRecord(name string) (blobKey, error) {
	repo, rest, _ := strings.Cut(strings.TrimPrefix(name, recordRoot+"/"), "/_m/")
	in, err := origin.ParseRepo(repo)
	if err != nil {
		return blobKey{}, err
	}
	d, err := origin.ParseDigest(strings.Replace(rest, "/", ":", 1))
	if err != nil {
		return blobKey{}, err
	}
	k := blobKey{in, d}
	if k.record() != name {
		return blobKey{}, fmt.Errorf("%q is no record's name", name)
	}
	return k, nil
}

type recordHeader struct {
	MediaType string    `json:"media_type"`
	Begun     time.Time `json:"begun"`
}

func (d *deposits) record(ctx context.Context, k blobKey, m origin.Manifest, begun time.Time) error {
	line, err := json.Marshal(recordHeader{MediaType: m.MediaType, Begun: begun})
	if err != nil {
		return err
	}
	_, err = d.records.Put(ctx, k.record(), append(append(line, '\n'), m.Bytes...), store.Always())
	return err
}

// unrecord forgets a manifest for good. That it could not costs one request more
// after a restart.
func (d *deposits) unrecord(ctx context.Context, k blobKey) {
	if err := d.records.Delete(ctx, k.record(), store.Always()); err != nil && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
		d.registry.log.Error("record not deleted", "key", k.record(), "error", err)
	}
}

// read gives a manifest that waits, and since when. Errors: store.ErrNotFound, also
// where the record is damaged: the mirror has the manifest.
func (d *deposits) read(ctx context.Context, k blobKey) (origin.Manifest, time.Time, error) {
	rec, err := d.records.Get(ctx, k.record())
	if err != nil {
		return origin.Manifest{}, time.Time{}, err
	}
	line, content, _ := bytes.Cut(rec.Data, []byte("\n"))
	var h recordHeader
	if err := json.Unmarshal(line, &h); err != nil || k.digest.Algorithm().FromBytes(content) != k.digest {
		return origin.Manifest{}, time.Time{}, fmt.Errorf("record %s is damaged: %w", k.record(), store.ErrNotFound)
	}
	m := origin.Manifest{Bytes: content}
	m.Descriptor.Descriptor = v1.Descriptor{MediaType: h.MediaType, Digest: k.digest, Size: int64(len(content))}
	return m, h.Begun, nil
}

// load finds what an earlier process left. Of an index nothing is asked for until one
// of its children comes: most of them never will.
func (d *deposits) load(ctx context.Context) {
	for e, err := range d.records.List(ctx, recordRoot, "") {
		if err != nil {
			if ctx.Err() == nil {
				d.registry.log.Error("manifests that wait for the registry behind were not found", "error", err)
			}
			return
		}
		k, err := parseRecord(e.Key)
		if err != nil || d.closing.Err() != nil {
			continue
		}
		m, begun, err := d.read(ctx, k)
		if err != nil {
			if errors.Is(err, store.ErrNotFound) {
				d.unrecord(ctx, k)
			}
			continue
		}
		content, err := origin.ReadManifest(m.MediaType, m.Bytes)
		if err != nil {
			d.unrecord(ctx, k)
			continue
		}
		d.register(ctx, k, content, begun, content.Index)
	}
}
