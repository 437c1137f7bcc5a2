package foreign

import (
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// withheld is how many of a blob's last bytes are kept back until it is verified.
const withheld = 64 << 10

// checked has the body of a whole blob verified.
func (r *Registry) checked(b origin.Blob, k blobKey) origin.Blob {
	whole := b.Offset == 0 && b.Length == b.Size
	if h := store.Hash(k.digest.Algorithm()); b.Body != nil && whole && h != nil {
		b.Body = &checked{body: b.Body, digest: k.digest, hash: h, buf: make([]byte, 2*withheld), bad: func() {
			r.spoilt.until.Add(k, time.Now().Add(spoiltFor)) // the mirror knows where to have a good one
			r.log.Error("the registry behind gave other content than its digest says",
				"repository", k.repo.String(), "digest", k.digest.String())
		}}
	}
	return b
}

// checked is the body of a whole blob. Its last bytes are given when its digest was
// found good, and never otherwise.
type checked struct {
	body   io.ReadCloser
	digest digest.Digest
	hash   hash.Hash
	bad    func() // told once that it is not

	buf  []byte
	r, w int // what is in buf
	good bool
	err  error // what comes when the bytes that may be given are
}

// Read implements io.Reader.
func (c *checked) Read(p []byte) (int, error) {
	for len(p) > 0 {
		ready := c.w - c.r
		if !c.good {
			ready -= withheld
		}
		if ready > 0 {
			n := copy(p, c.buf[c.r:c.r+ready])
			c.r += n
			return n, nil
		}
		if c.err != nil {
			return 0, c.err
		}
		c.more()
	}
	return 0, nil
}

func (c *checked) more() {
	c.w, c.r = copy(c.buf, c.buf[c.r:c.w]), 0
	n, err := c.body.Read(c.buf[c.w:])
	_, _ = c.hash.Write(c.buf[c.w : c.w+n]) // a hash never fails
	c.w += n
	if err != io.EOF {
		c.err = told(err)
		return
	}
	c.err = io.EOF
	if c.good = fmt.Sprintf("%x", c.hash.Sum(nil)) == c.digest.Encoded(); !c.good {
		c.err = fmt.Errorf("blob %s: %w", c.digest, store.ErrDigest)
		c.bad()
	}
}

// Close implements io.Closer.
func (c *checked) Close() error { return c.body.Close() }
