package s3

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// ErrConditions says that a bucket keeps no conditions on writes, and that there is no
// Locker to stand in for them.
var ErrConditions = errors.New("store/s3: the bucket does not keep conditions on writes (If-None-Match, If-Match), and no lock of all replicas stands in for them")

const (
	// DefaultPartSize is how much of a blob is sent at a time, in bytes.
	DefaultPartSize = 16 << 20
	// MinPartSize is the least that S3 allows for a part that is not the last.
	MinPartSize = 5 << 20
	// defaultRegion is what a store with an endpoint of its own is signed for.
	defaultRegion = "us-east-1"
	// idLen is the length of an id.
	idLen = 32
)

// The names below a prefix.
const (
	blobsDir   = "blobs/"
	dataDir    = "data/"
	indexDir   = "index/"
	ingestDir  = "ingest/"
	probeDir   = "probe/"
	recordsDir = "records/"
)

// Options say which bucket, and how it is reached.
type Options struct {
	Bucket string
	// Region is what requests are signed for; "" = the environment's, else us-east-1.
	Region string
	// Endpoint is the URL of a store that is not AWS; "" = AWS.
	Endpoint string
	// Prefix is what all keys begin with, without a slash at its end; "" = nothing.
	Prefix string
	// PathStyle puts the bucket into the path, and not into the host.
	PathStyle bool
	// AccessKeyID and what SecretAccessKey gives are the credentials; "" and nil = AWS's
	// default chain. It is asked again once a minute.
	AccessKeyID     string
	SecretAccessKey func() (string, error)
	// PublicEndpoint is the URL of the store as clients know it, for Presign; "" = Endpoint.
	PublicEndpoint string
	// PartSize is how much of a blob is sent at a time, in bytes; 0 = DefaultPartSize.
	PartSize int64
	// Spool is the directory for what was received and not sent yet; "" = the system's
	// temporary one. It is made if need be. Nothing stays in it.
	Spool string
	// Locker stands in for conditions on writes where the bucket has none.
	Locker Locker
	// Around wraps what sends requests to the bucket; nil = nothing does.
	Around func(http.RoundTripper) http.RoundTripper
	// Log is told what an operator wants to know; nil discards it.
	Log *slog.Logger
}

// Locker holds a name for one of all the processes that use a bucket.
type Locker interface {
	// Lock waits until the name is free, and holds it until Unlock is called.
	Lock(ctx context.Context, name string) (Lock, error)
}

// Lock is a name that is held.
type Lock interface {
	// Token is greater than that of whoever held the name before, and below 1<<56.
	Token() uint64
	// Until is the time before which nobody else holds it, which may become later.
	Until() time.Time
	// Lost is closed once another one may hold it.
	Lost() <-chan struct{}
	// Unlock gives it back.
	Unlock()
}

// Store is a bucket below a prefix. All that it gives is safe for concurrent use, by any
// number of processes.
type Store struct {
	client  *s3.Client
	presign *s3.PresignClient
	idle    func()
	bucket  string
	prefix  string // ends in a slash, or is empty
	log     *slog.Logger
	cells   *cells
	blobs   *Blobs
	records *Records
}

// Open asks the bucket what it is able to do. Errors: ErrConditions, and whatever the
// bucket, or the way to it, has.
func Open(ctx context.Context, o Options) (*Store, error) {
	s, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open store s3://%s/%s: %w", o.Bucket, o.Prefix, err)
	}
	return s, nil
}

func open(ctx context.Context, o Options) (*Store, error) {
	if o.PartSize == 0 {
		o.PartSize = DefaultPartSize
	}
	if o.PartSize < MinPartSize {
		return nil, fmt.Errorf("parts of %d bytes: S3 wants %d or more", o.PartSize, MinPartSize)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Spool != "" {
		if err := os.MkdirAll(o.Spool, 0o700); err != nil {
			return nil, err
		}
	}
	client, idle, err := newClient(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &Store{client: client, idle: idle, bucket: o.Bucket, log: o.Log}
	if o.Prefix = strings.Trim(o.Prefix, "/"); o.Prefix != "" {
		s.prefix = o.Prefix + "/"
	}
	public := client
	if o.PublicEndpoint != "" {
		o.Endpoint = o.PublicEndpoint
		if public, _, err = newClient(ctx, o); err != nil {
			return nil, err
		}
	}
	s.presign = s3.NewPresignClient(public)
	s.cells = &cells{s: s}
	if err := s.probe(ctx, o.Locker); err != nil {
		return nil, err
	}
	s.records = &Records{s: s}
	s.blobs = newBlobs(s, o)
	return s, nil
}

// Close lets go of idle connections. What is on its way goes on.
func (s *Store) Close() error {
	s.idle()
	return nil
}

// Blobs is the store's half of large immutable content.
func (s *Store) Blobs() *Blobs { return s.blobs }

// Records is the store's half of small mutable values.
func (s *Store) Records() *Records { return s.records }

// key is the name of what is below the store's prefix.
func (s *Store) key(name string) *string {
	full := s.prefix + name
	return &full
}

// newID gives 128 random bits in hex.
func newID() string {
	var random [idLen / 2]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

func validID(s string) bool { return len(s) == idLen && isHex(s) }

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }
