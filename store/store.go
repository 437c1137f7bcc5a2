package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
)

// The errors of a store. Callers decide with [errors.Is]; backends wrap them.
var (
	// ErrNotFound says that the blob, record or ingest does not exist. It is
	// also [fs.ErrNotExist].
	ErrNotFound = fmt.Errorf("store: %w", fs.ErrNotExist)
	// ErrDigest says that the bytes received do not have the digest asked for.
	ErrDigest = errors.New("store: digest does not match content")
	// ErrConflict says that a record is not in the state its Condition wants.
	ErrConflict = errors.New("store: record changed")
	// ErrRange says that a range begins behind the end of its blob.
	ErrRange = errors.New("store: range not satisfiable")
	// ErrBusy says that another writer holds the ingest.
	ErrBusy = errors.New("store: ingest is in use")
	// ErrKey says that a record's key is not one: see [ValidKey].
	ErrKey = errors.New("store: invalid key")
	// ErrDamaged says that what is stored is not what was stored, or a part of it is gone.
	// It is never "not found".
	ErrDamaged = errors.New("store: damaged")
	// ErrForeign says that a file cannot be adopted, since it lies where this
	// store cannot take it over without a copy.
	ErrForeign = errors.New("store: file is not on this store")
)

// NoRoom reports whether err says that a disk is full.
func NoRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// Info describes a stored blob.
type Info struct {
	Digest   digest.Digest
	Size     int64     // bytes
	Modified time.Time // when it was committed, by the store's clock
}

// Blob is an opened blob: a description of the whole, and a Body that gives
// Length bytes from Offset on. The caller closes Body.
//
// Body may implement [io.WriterTo]; it then hands the destination's
// ReadFrom a limited *os.File where it can, so that a socket is fed by the
// kernel (sendfile). Whoever owns the destination renews its deadlines.
type Blob struct {
	Info
	Offset, Length int64
	Body           io.ReadCloser
	// Verified says that Body ends in ErrDamaged rather than with other bytes than the
	// digest promises.
	Verified bool
}

// Blobs keeps large immutable content, named by digest (sha256 or sha512).
// All methods are safe for concurrent use.
type Blobs interface {
	// Stat describes a blob. Errors: ErrNotFound.
	Stat(ctx context.Context, d digest.Digest) (Info, error)
	// Open opens the range r of a blob. Errors: ErrNotFound, ErrRange, ErrDamaged.
	Open(ctx context.Context, d digest.Digest, r Range) (Blob, error)
	// Ingest begins a new write when id is "", and resumes the one of that id
	// otherwise, with everything that was written before its last Close. The
	// bytes are hashed with alg while they are written; on resumption alg is
	// ignored and the ingest's own is kept. One holder at a time.
	// Errors: ErrNotFound (no such id), ErrBusy.
	Ingest(ctx context.Context, id string, alg digest.Algorithm) (Ingest, error)
	// Ingests lists the ingests that are neither committed nor cancelled, open
	// ones included, in no order.
	Ingests(ctx context.Context) iter.Seq2[IngestInfo, error]
	// Delete removes a blob. Readers that have it open are not disturbed. Nothing is
	// removed after the deadline of ctx, whatever becomes of the caller: where that is
	// another machine's to do, it is that machine that refuses what comes too late.
	// Errors: ErrNotFound.
	Delete(ctx context.Context, d digest.Digest) error
	// All lists all blobs in no order.
	All(ctx context.Context) iter.Seq2[Info, error]
}

// IngestInfo describes an unfinished ingest.
type IngestInfo struct {
	ID       string
	Size     int64     // bytes received
	Modified time.Time // when the last byte came
}

// Ingest is one blob being written. It is not safe for concurrent use.
type Ingest interface {
	io.Writer
	// ID names the ingest for a later resumption: 128 random bits in hex.
	ID() string
	// Size is the number of bytes written so far.
	Size() int64
	// Commit makes the content visible as d, all or nothing, and durable when it
	// returns. If d's algorithm is not the one hashed while writing, the bytes
	// are read again, and only then. If the blob exists already the ingest is
	// dropped and the blob kept. After an error other than ErrDigest the ingest
	// may be resumed or cancelled. Errors: ErrDigest.
	Commit(ctx context.Context, d digest.Digest) (Info, error)
	// Close lets go of the ingest and keeps it, to be resumed by its ID. It is a
	// no-op after Commit or Cancel.
	Close() error
	// Cancel drops what was written. It is a no-op after Commit: defer it.
	Cancel() error
}

// Adopter is implemented by a Blobs that can take over a verified file without
// a copy.
type Adopter interface {
	// Adopt makes the content of f visible as d; the caller vouches that f's bytes
	// have that digest and that nobody writes to it any more. f keeps its own
	// name, which the caller removes. Durable when it returns.
	// Errors: ErrForeign where a copy would be needed.
	Adopt(ctx context.Context, f *os.File, d digest.Digest) (Info, error)
}

// Quarantiner is implemented by a Blobs that can keep bytes that turned out wrong where
// nobody reads them.
type Quarantiner interface {
	// Quarantine takes a blob away, for an operator to look at: for everybody else it is
	// as if it was deleted. Durable when it returns. Errors: ErrNotFound.
	Quarantine(ctx context.Context, d digest.Digest) error
}

// Linker is implemented by a Blobs that can take over a verified file that stays
// somebody else's, without a copy: both have the same bytes under their names.
type Linker interface {
	// Link makes the content of f visible as d; the caller vouches that f's bytes have
	// that digest and that nobody writes to them as long as there is one of the two. f
	// keeps its name, its times, its owner and its mode, and Info.Modified is f's.
	// Durable when it returns. Errors: ErrForeign where a copy would be needed, which
	// is also where somebody else may write to f.
	Link(ctx context.Context, f *os.File, d digest.Digest) (Info, error)
}

// Presigner is implemented by a Blobs whose bytes a client may fetch by itself.
type Presigner interface {
	// Presign gives a URL by which whoever knows it may GET the blob, whole or in ranges,
	// until ttl is over, and do nothing else. Errors: ErrNotFound.
	Presign(ctx context.Context, d digest.Digest, ttl time.Duration) (url string, err error)
}

// Record is a small value, the version that names this state of it, and when it was
// written, by the store's clock.
type Record struct {
	Data     []byte
	Version  string
	Modified time.Time
}

// Entry describes a record in a listing.
type Entry struct {
	Key      string
	Version  string // "" where the backend would have to read the record for it
	Size     int64  // bytes, as stored; 0 where not known
	Modified time.Time
}

// Records keeps small mutable values, named by slash-separated keys. No key may
// be a path prefix of another ("a" and "a/b"). All methods are safe for
// concurrent use.
type Records interface {
	// Get reads a record. Errors: ErrNotFound, ErrKey, and ErrDamaged, then with what data
	// there is and no Version: only Always goes over it, or the Version of its Entry.
	Get(ctx context.Context, key string) (Record, error)
	// Put writes a record if its state is as the condition says, and returns the
	// new version; durable when it returns. Errors: ErrConflict, ErrKey.
	Put(ctx context.Context, key string, data []byte, if_ Condition) (version string, err error)
	// Delete removes a record if its state is as the condition says.
	// Errors: ErrNotFound, ErrConflict, ErrKey.
	Delete(ctx context.Context, key string, if_ Condition) error
	// List gives the records below prefix (a key path: "a/b" lists "a/b/c", not
	// "a/bc"; "" lists all) whose key is greater than the key after, in the byte
	// order of their keys.
	List(ctx context.Context, prefix, after string) iter.Seq2[Entry, error]
}

// Write is what a Put of Records is told.
type Write struct {
	Key  string
	Data []byte
	If   Condition
}

// Batcher is implemented by Records that can make several writes durable at once,
// for less than one after the other. Who has one that is none calls Put for each.
type Batcher interface {
	// PutAll makes the writes, of different keys, and returns when all are durable. They
	// appear in their order: nobody sees one, nor finds it after a crash, without those
	// before it. After ErrConflict none was made; after another error each may have been,
	// as after Put. Errors: ErrConflict, ErrKey.
	PutAll(ctx context.Context, writes []Write) error
}

// Condition says in which state a record must be for a write to happen.
// The zero value is Always.
type Condition struct {
	absent  bool
	version string
}

// Always writes whatever is there.
func Always() Condition { return Condition{} }

// Absent writes only where nothing is.
func Absent() Condition { return Condition{absent: true} }

// Version writes only over that version.
func Version(v string) Condition { return Condition{version: v} }

// Want gives the version that the condition asks for; ok is false where it asks for none.
func (c Condition) Want() (version string, ok bool) { return c.version, c.version != "" }

// Allows reports whether a write may happen over a record that exists with that
// version, or that does not exist.
func (c Condition) Allows(exists bool, version string) bool {
	switch {
	case c.absent:
		return !exists
	case c.version != "":
		return exists && version == c.version
	default:
		return true
	}
}
