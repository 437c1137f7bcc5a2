package s3

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// pointer is the name of a blob: a cell at blobs/<alg>/<hex> that says which object has
// its bytes. That object's key is new for each upload, so that whoever deletes it cannot
// hit bytes that came later.
type pointer struct {
	Data string `json:"data"` // an id: the object is data/<id>
	Size int64  `json:"size"` // bytes

	version  string
	modified time.Time
	// seen is when the bucket said so, by our clock.
	seen time.Time
	// address is where a client gets the bytes, for addressed; "" where nobody asked since
	// the pointer was seen.
	address   string
	addressed time.Duration
}

func (p pointer) info(d digest.Digest) store.Info {
	return store.Info{Digest: d, Size: p.Size, Modified: p.modified}
}

func pointerKey(d digest.Digest) string {
	return blobsDir + d.Algorithm().String() + "/" + d.Encoded()
}

// readPointer reads the cell of a blob. What a damaged one says leads nobody to other bytes.
func readPointer(c cell) (pointer, error) {
	p := pointer{version: c.version, modified: c.modified, seen: time.Now()}
	if err := json.Unmarshal(c.data, &p); err != nil || c.nonce == spoilt || !validID(p.Data) || p.Size < 0 {
		return pointer{}, errDamaged
	}
	return p, nil
}

// indexKey is an object without content whose key says how large a blob is and where its
// bytes are, so that a listing tells the sizes of all blobs. It is there before the bytes
// and after them: bytes that no pointer leads to are found by it.
func (p pointer) indexKey(d digest.Digest) string {
	return fmt.Sprintf("%s%s/%s/%d-%s", indexDir, d.Algorithm(), d.Encoded(), p.Size, p.Data)
}

// readIndex reads what a key below index/ says, and gives the digest's part of it.
func readIndex(key string) (name string, p pointer, ok bool) {
	i := strings.LastIndexByte(key, '/')
	if i < 0 {
		return "", pointer{}, false
	}
	name = key[:i]
	size, id, _ := strings.Cut(key[i+1:], "-")
	n, err := strconv.ParseInt(size, 10, 64)
	_, ok = digestOf(name)
	return name, pointer{Data: id, Size: n}, ok && err == nil && n >= 0 && validID(id)
}

// digestOf reads "<alg>/<hex>".
func digestOf(name string) (digest.Digest, bool) {
	alg, hex, _ := strings.Cut(name, "/")
	d := digest.NewDigestFromEncoded(digest.Algorithm(alg), hex)
	return d, store.ValidDigest(d)
}

// pointer gives where a blob is. It asks the bucket, unless that was done less than age
// ago. Errors: store.ErrNotFound.
func (b *Blobs) pointer(ctx context.Context, d digest.Digest, age time.Duration) (pointer, error) {
	if !store.ValidDigest(d) {
		return pointer{}, store.ErrNotFound
	}
	if p, ok := b.known.get(d); ok && time.Since(p.seen) < age {
		return p, nil
	}
	asked := time.Now()
	found, err := b.s.cells.get(ctx, pointerKey(d))
	if err != nil {
		b.known.forget(d)
		return pointer{}, err
	}
	p, err := readPointer(found)
	if err != nil {
		return pointer{}, err
	}
	p.seen = asked
	b.known.put(d, p)
	return p, nil
}
