package importer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
)

// annotationName is containerd's: the whole name of an image. The specification's own
// (org.opencontainers.image.ref.name) is a tag, by custom, and names no repository.
const annotationName = "io.containerd.image.name"

const (
	indexFile  = v1.ImageIndexFile
	layoutFile = v1.ImageLayoutFile
	// largestIndex is the largest index.json that is read, in bytes: some 100,000 entries.
	largestIndex = 64 << 20
)

// ErrNoLayout says that a directory holds no OCI image layout.
var ErrNoLayout = errors.New("no OCI image layout")

// index is an index.json. What it says besides its manifests is kept as it is.
type index struct {
	members map[string]json.RawMessage
	raw     []json.RawMessage // the manifests as they are written
	entries []v1.Descriptor   // the same, read
}

// parseIndex reads an index.json. Its entries have valid digests.
func parseIndex(b []byte) (index, error) {
	var x index
	if err := json.Unmarshal(b, &x.members); err != nil {
		return x, fmt.Errorf("%s: malformed JSON", indexFile)
	}
	var version int
	if err := json.Unmarshal(x.members["schemaVersion"], &version); err != nil || version != 2 {
		return x, fmt.Errorf("%s: schemaVersion is not 2", indexFile)
	}
	if m, ok := x.members["manifests"]; ok {
		if err := json.Unmarshal(m, &x.raw); err != nil {
			return x, fmt.Errorf("%s: manifests is no list", indexFile)
		}
	}
	for i, raw := range x.raw {
		var d v1.Descriptor
		err := json.Unmarshal(raw, &d)
		if err == nil {
			_, err = origin.ParseDigest(d.Digest.String())
		}
		if err != nil {
			return x, fmt.Errorf("%s: manifests[%d] is no descriptor of a manifest", indexFile, i)
		}
		x.entries = append(x.entries, d)
	}
	return x, nil
}

// readIndex reads the index.json of a layout. Errors: ErrNoLayout.
func readIndex(dir fs.FS) (index, error) {
	b, err := readFile(dir, layoutFile, 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return index{}, fmt.Errorf("%w: there is no %s in it", ErrNoLayout, layoutFile)
	}
	if err != nil {
		return index{}, err
	}
	var layout v1.ImageLayout
	if err := json.Unmarshal(b, &layout); err != nil || layout.Version != v1.ImageLayoutVersion {
		return index{}, fmt.Errorf("%w: %s does not say version %s", ErrNoLayout, layoutFile, v1.ImageLayoutVersion)
	}
	b, err = readFile(dir, indexFile, largestIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return index{}, fmt.Errorf("%w: there is no %s in it", ErrNoLayout, indexFile)
	}
	if err != nil {
		return index{}, err
	}
	return parseIndex(b)
}

func readFile(dir fs.FS, name string, largest int64) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, largest+1))
	if err == nil && int64(len(b)) > largest {
		err = fmt.Errorf("%s is larger than %d bytes", name, largest)
	}
	return b, err
}

// blobFile is where a layout has a blob.
func blobFile(d digest.Digest) string {
	return path.Join(v1.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}
