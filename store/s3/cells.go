package s3

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/weir-registry/weir/store"
)

// errDamaged says that an object is not what its key promises. It is never "not found".
var errDamaged = fmt.Errorf("%w object of a bucket", store.ErrDamaged)

// errUncertain says that it is not known whether a write happened: its answer was lost,
// and somebody else has written since.
var errUncertain = errors.New("store/s3: whether it was written is not known")

const (
	// headerLen is the length of a cell's first line: nonce, CRC, newline.
	headerLen = idLen + 1 + 8 + 1
	// maxCell is the largest cell that is read, in bytes.
	maxCell = 64 << 20
	// tombstoneLife is how long whoever deletes has to remove what he left in the cell's
	// place; whoever creates it anew waits for longer than that before he writes over it.
	tombstoneLife = time.Second
	tombstoneWait = 3 * time.Second
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// cells are small objects that change only as a condition allows: records, and the names
// of blobs. A cell begins with a random nonce, so that no two states of it have the same
// ETag, which is its version; and with a checksum. An empty object is a tombstone: the
// cell is deleted, and about to be removed.
type cells struct {
	s *Store
	// locker stands in for conditions where the bucket has none; else nil.
	locker Locker
	// removes says that the bucket has conditional deletes. Tombstones stay otherwise.
	removes bool
}

// cell is one state of a cell.
type cell struct {
	nonce    string // "" of a tombstone
	data     []byte
	version  string
	modified time.Time
	// asked is when it was read, by the bucket's clock, as modified is.
	asked time.Time
}

func (c cell) tombstone() bool { return c.nonce == "" }

// header is the first line of a cell whose checksum, begun by checksum, is sum.
func header(nonce string, sum uint32) string { return fmt.Sprintf("%s %08x\n", nonce, sum) }

// checksum is that of a cell with data, or of the beginning of it.
func checksum(nonce string, data []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(nonce), castagnoli), castagnoli, data)
}

// olderThan reports whether the cell was written longer than that before it was read, by
// the one clock that tells both, in seconds.
func (c cell) olderThan(age time.Duration) bool {
	return c.version != "" && c.asked.Sub(c.modified) > age+2*time.Second
}

// parse reads a cell's object. With errDamaged it gives what data there is.
func parse(text []byte) (cell, error) {
	if len(text) == 0 {
		return cell{}, nil
	}
	if len(text) < headerLen {
		return cell{}, errDamaged
	}
	nonce, data := string(text[:idLen]), text[headerLen:]
	if !validID(nonce) || string(text[:headerLen]) != header(nonce, checksum(nonce, data)) {
		return cell{data: data}, errDamaged
	}
	return cell{nonce: nonce, data: data}, nil
}

// spoilt is the nonce of a cell that is damaged: of it only the version is sure, over which
// it is written anew.
const spoilt = "damaged"

// rereads is how often a cell is read again that seems to be damaged.
const rereads = 2

// look reads a cell, tombstones included. Errors: store.ErrNotFound, errDamaged with a cell
// that is spoilt.
func (c *cells) look(ctx context.Context, key string) (cell, error) {
	for n := 0; ; n++ {
		found, err := c.lookOnce(ctx, key)
		if err == nil || errors.Is(err, store.ErrNotFound) || n == retries || ctx.Err() != nil {
			return found, err
		}
		// The SDK has repeated what was not answered; a body that broke off, or is
		// damaged, is another matter.
		if errors.Is(err, errDamaged) && n == rereads {
			return found, err
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errDamaged) && !retryable(err) {
			return cell{}, err
		}
		if err := pause(ctx, n); err != nil {
			return cell{}, err
		}
	}
}

func (c *cells) lookOnce(ctx context.Context, key string) (cell, error) {
	out, err := c.s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &c.s.bucket, Key: c.s.key(key)}, once)
	if err != nil {
		return cell{}, missing(err)
	}
	defer out.Body.Close()
	text, err := io.ReadAll(io.LimitReader(out.Body, maxCell+1))
	if err != nil {
		return cell{}, err
	}
	if out.ContentLength != nil && int64(len(text)) != *out.ContentLength {
		return cell{}, io.ErrUnexpectedEOF
	}
	found, err := parse(text)
	if err != nil {
		found.nonce = spoilt
	}
	found.version, found.modified = version(out.ETag), aws.ToTime(out.LastModified)
	found.asked, _ = awsmiddleware.GetServerTime(out.ResultMetadata)
	return found, err
}

// get reads a cell. Errors: store.ErrNotFound.
func (c *cells) get(ctx context.Context, key string) (cell, error) {
	found, err := c.look(ctx, key)
	if err == nil && found.tombstone() {
		return cell{}, store.ErrNotFound
	}
	return found, err
}

// version is an ETag without its quotes.
func version(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

// isVersion reports whether v may be one, and so may stand in a header.
func isVersion(v string) bool {
	for i := range len(v) {
		if v[i] <= ' ' || v[i] >= 0x7f || v[i] == '"' || v[i] == '\\' {
			return false
		}
	}
	return v != ""
}

// put writes a cell if its state is as the condition says. Errors: store.ErrConflict,
// errUncertain.
func (c *cells) put(ctx context.Context, key string, data []byte, if_ store.Condition) (cell, error) {
	return c.write(ctx, newWrite(key, string(data), &buffer{}), if_)
}

// write makes a write if the cell's state is as the condition says.
func (c *cells) write(ctx context.Context, w write, if_ store.Condition) (cell, error) {
	if c.locker != nil {
		return c.writeLocked(ctx, w, if_)
	}
	if v, ok := if_.Want(); ok {
		if !isVersion(v) {
			return cell{}, store.ErrConflict
		}
		written, _, err := c.swap(ctx, w, v)
		return written, err
	}
	var is cell // what is there, as far as that is known
	if if_ == store.Always() {
		var err error
		if is, err = c.look(ctx, w.key); err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, errDamaged) {
			return cell{}, err
		}
	}
	since := time.Now()
	for n := 0; ; n++ {
		switch {
		case is.version == "":
		case is.tombstone():
			// Whoever left it is about to remove it; or has ended before he could.
			if c.removes && time.Since(since) < tombstoneWait {
				if err := pause(ctx, min(n, 2)); err != nil {
					return cell{}, err
				}
				var err error
				if is, err = c.look(ctx, w.key); err != nil && !errors.Is(err, store.ErrNotFound) {
					return cell{}, err
				}
				continue
			}
		case !if_.Allows(true, is.version):
			return cell{}, store.ErrConflict
		}
		written, now, err := c.swap(ctx, w, is.version)
		if !errors.Is(err, store.ErrConflict) {
			return written, err
		}
		if is = now; n > 0 { // Somebody is as fast as we are.
			if err := pause(ctx, min(n, 2)); err != nil {
				return cell{}, err
			}
		}
	}
}

// write is what is to be in a cell: nothing, if it has no nonce.
type write struct {
	key, nonce string
	text       joined
}

// newWrite is a write of data, and what tail holds behind it.
func newWrite(key, data string, tail *buffer) write {
	return newWriteAs(newID(), key, data, tail)
}

// newWriteAs is newWrite with that nonce.
func newWriteAs(nonce, key, data string, tail *buffer) write {
	sum := checksum(nonce, []byte(data))
	buf := make([]byte, 32<<10)
	for r := tail.reader(); ; {
		n, err := r.Read(buf)
		sum = crc32.Update(sum, castagnoli, buf[:n])
		if err != nil {
			break // what cannot be read now cannot be sent either, and that tells
		}
	}
	return write{key, nonce, joined{header(nonce, sum) + data, tail}}
}

// swap writes a cell over that version, or where nothing is (over ""). With ErrConflict
// it gives what is there instead, which is the zero cell if nothing is.
//
// An answer may be lost, so a refusal does not mean that nothing was written: the nonce
// of what is there tells. A write over a version whose answer was lost cannot come later,
// behind what we do next: no version comes twice, so its condition is never met again. One
// over nothing can, if the cell is deleted meanwhile, and one over a tombstone can meet the
// next tombstone, since all of them are the same empty object.
func (c *cells) swap(ctx context.Context, w write, over string) (written, is cell, err error) {
	doubt := false
	since := time.Now()
	for n := 0; ; n++ {
		etag, at, err := c.s.putObject(ctx, w.key, w.text, condition(over))
		if err == nil {
			return cell{nonce: w.nonce, version: etag, modified: at}, cell{}, nil
		}
		switch said := code(err); {
		case said == "PreconditionFailed", said == "NoSuchKey" && over != "":
			is, err := c.look(ctx, w.key)
			switch {
			case err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, errDamaged):
				return cell{}, cell{}, err
			case is.nonce == w.nonce && (doubt || w.nonce != ""):
				return is, cell{}, nil
			case is.version == over && !(doubt && is.tombstone()):
				// It is as it was, whatever the bucket says: nothing was written.
			case doubt && !is.olderThan(time.Since(since)):
				return cell{}, cell{}, errUncertain
			default:
				return cell{}, is, store.ErrConflict
			}
		case said == "ConditionalRequestConflict", said == "OperationAborted", said == "SlowDown":
			// Nothing was written.
		case retryable(err):
			doubt = true
		default:
			return cell{}, cell{}, err
		}
		if n == retries {
			return cell{}, cell{}, err
		}
		if err := pause(ctx, n); err != nil {
			return cell{}, cell{}, err
		}
	}
}

// condition gives a request to write the condition that what is there has that version, or
// that nothing is ("").
func condition(over string) func(*s3.PutObjectInput) {
	return func(in *s3.PutObjectInput) {
		if over == "" {
			in.IfNoneMatch = aws.String("*")
		} else {
			in.IfMatch = aws.String(`"` + over + `"`)
		}
	}
}

// putObject writes an object. With a condition it makes one attempt.
func (s *Store) putObject(ctx context.Context, key string, text joined, if_ func(*s3.PutObjectInput)) (etag string, at time.Time, err error) {
	in := &s3.PutObjectInput{
		Bucket: &s.bucket, Key: s.key(key),
		Body: text.reader(), ContentLength: aws.Int64(text.size()),
	}
	var options []func(*s3.Options)
	if if_ != nil {
		if_(in)
		options = append(options, once)
	}
	out, err := s.client.PutObject(ctx, in, options...)
	if err != nil {
		return "", time.Time{}, err
	}
	at, _ = awsmiddleware.GetServerTime(out.ResultMetadata)
	return version(out.ETag), at, nil
}
