package s3

import (
	"bufio"
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// state is what a cell at ingest/<id> says: a line that is the ingest's size, this as
// JSON in one line, and the bytes that are in no part.
type state struct {
	Algorithm digest.Algorithm `json:"algorithm"`
	Hash      []byte           `json:"hash"` // as the standard library marshals it
	Upload    string           `json:"upload,omitempty"`
	Parts     []part           `json:"parts,omitempty"`
	Sealed    digest.Digest    `json:"sealed,omitempty"` // the one that may be committed
	Whole     bool             `json:"whole,omitempty"`  // the object is there
}

// maxSizeLine is longer than the line of any size.
const maxSizeLine = 24

// save writes the ingest's state. Nothing is on its way. Errors: store.ErrBusy, where
// another process has written one since.
func (g *ingest) save(ctx context.Context) error {
	marshaled, err := g.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return err
	}
	line, err := json.Marshal(state{g.alg, marshaled, g.upload, g.parts, g.sealed, g.whole})
	if err != nil {
		return err
	}
	if_ := store.Absent()
	if g.version != "" {
		if_ = store.Version(g.version)
	}
	g.stated = true
	size := g.size.Load()
	written, err := g.b.s.cells.write(ctx, newWrite(ingestDir+g.id, fmt.Sprintf("%d\n%s\n", size, line), g.buf), if_)
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("%w: %w", store.ErrBusy, err)
	}
	if err != nil {
		return err
	}
	g.version, g.saved, g.savedAt = written.version, size, time.Now()
	return nil
}

// load reads the state that was saved. Errors: store.ErrNotFound.
func (g *ingest) load(ctx context.Context) error {
	for n := 0; ; n++ {
		err := g.loadOnce(ctx)
		if err == nil || errors.Is(err, store.ErrNotFound) || n == retries || ctx.Err() != nil {
			return err
		}
		g.buf.close()
		g.buf = &buffer{dir: g.b.spool}
		if err := pause(ctx, n); err != nil {
			return err
		}
	}
}

func (g *ingest) loadOnce(ctx context.Context) error {
	out, err := g.b.s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &g.b.s.bucket, Key: g.b.s.key(ingestDir + g.id)})
	if err != nil {
		return missing(err)
	}
	defer out.Body.Close()
	r := bufio.NewReaderSize(out.Body, 64<<10)
	head := make([]byte, headerLen)
	if _, err := io.ReadFull(r, head); err != nil {
		return err
	}
	nonce := string(head[:idLen])
	sum := &running{sum: checksum(nonce, nil)}
	text := io.TeeReader(r, sum)
	lines := bufio.NewReaderSize(text, 64<<10)
	sizeLine, err := lines.ReadString('\n')
	if err != nil {
		return err
	}
	stateLine, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	if _, err := io.Copy(g.buf, lines); err != nil {
		return err
	}
	if !validID(nonce) || string(head) != header(nonce, sum.sum) {
		return errDamaged
	}
	size, err := readSize(sizeLine)
	if err != nil {
		return err
	}
	var st state
	if err := json.Unmarshal(stateLine, &st); err != nil {
		return errDamaged
	}
	h := store.Hash(st.Algorithm)
	if h == nil || h.(encoding.BinaryUnmarshaler).UnmarshalBinary(st.Hash) != nil {
		return errDamaged
	}
	if st.size()+g.buf.size != size {
		return errDamaged
	}
	g.alg, g.hash, g.upload, g.parts, g.sealed = st.Algorithm, h, st.Upload, st.Parts, st.Sealed
	g.whole = st.Whole && st.Sealed != "" // which an older state may not say
	// The object may have become a blob's since, or may yet.
	g.late = st.Whole || st.Sealed != ""
	g.doubt = g.late
	g.version, g.stated, g.saved, g.savedAt = version(out.ETag), true, size, time.Now()
	g.size.Store(size)
	g.moved.Store(aws.ToTime(out.LastModified).UnixNano())
	return nil
}

// running is the checksum of a cell whose data is written to it.
type running struct{ sum uint32 }

func (r *running) Write(p []byte) (int, error) {
	r.sum = crc32.Update(r.sum, castagnoli, p)
	return len(p), nil
}

// size is how many bytes are in parts.
func (s state) size() (n int64) {
	for _, p := range s.Parts {
		n += p.Size
	}
	return n
}

// readSize reads a state's first line.
func readSize(line string) (int64, error) {
	n, err := strconv.ParseInt(string(bytes.TrimSuffix([]byte(line), []byte("\n"))), 10, 64)
	if err != nil || n < 0 {
		return 0, errDamaged
	}
	return n, nil
}

// savedSize reads how much an ingest had received when it was saved last.
func (b *Blobs) savedSize(ctx context.Context, id string) (int64, error) {
	out, err := b.s.client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &b.s.bucket, Key: b.s.key(ingestDir + id),
		Range: aws.String(fmt.Sprintf("bytes=%d-%d", headerLen, headerLen+maxSizeLine-1)),
	})
	if err != nil {
		return 0, missing(err)
	}
	defer out.Body.Close()
	text, err := io.ReadAll(io.LimitReader(out.Body, maxSizeLine))
	if err != nil {
		return 0, err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return readSize(string(line))
}
