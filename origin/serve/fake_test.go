package serve_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake answers what a test says, and has nothing otherwise.
type fake struct {
	origin.None
	resolve   func(origin.Repo, origin.Ref) (origin.Descriptor, error)
	manifest  func(origin.Repo, origin.Ref) (origin.Manifest, error)
	stat      func(origin.Repo, digest.Digest) (origin.Descriptor, error)
	blob      func(context.Context, store.Range) (origin.Blob, error)
	upload    func(id string) (store.Ingest, error)
	referrers func(p origin.Page) (origin.List[origin.Descriptor], error)
}

func (f fake) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	if f.resolve == nil {
		return f.None.Resolve(ctx, repo, ref)
	}
	return f.resolve(repo, ref)
}

func (f fake) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	if f.manifest == nil {
		return f.None.Manifest(ctx, repo, ref)
	}
	return f.manifest(repo, ref)
}

func (f fake) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	if f.stat == nil {
		return f.None.Stat(ctx, repo, d)
	}
	return f.stat(repo, d)
}

func (f fake) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	if f.blob == nil {
		return f.None.Blob(ctx, repo, d, r)
	}
	return f.blob(ctx, r)
}

func (f fake) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	if f.upload == nil {
		return f.None.Upload(ctx, repo, id, alg)
	}
	return f.upload(id)
}

func (f fake) Referrers(ctx context.Context, repo origin.Repo, d digest.Digest, artifactType string, p origin.Page) (origin.List[origin.Descriptor], error) {
	if f.referrers == nil {
		return f.None.Referrers(ctx, repo, d, artifactType, p)
	}
	return f.referrers(p)
}

// manifestOf is a manifest of those bytes, from a source.
func manifestOf(b []byte, src origin.Source) origin.Manifest {
	d := origin.Descriptor{Descriptor: v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromBytes(b), Size: int64(len(b))}, Source: src}
	return origin.Manifest{Descriptor: d, Bytes: b}
}

// body is a blob's body that says when it was closed.
type body struct {
	io.Reader
	closed *int
}

func (b body) Close() error { *b.closed++; return nil }

// newLocal is an empty registry in memory.
func newLocal(t testing.TB) *local.Registry {
	t.Helper()
	r, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// blobs makes a fake's blob of a function that needs no context.
func blobs(open func(store.Range) (origin.Blob, error)) func(context.Context, store.Range) (origin.Blob, error) {
	return func(_ context.Context, r store.Range) (origin.Blob, error) { return open(r) }
}

// errCut is what ask gives where the handler cut the connection.
var errCut = errors.New("connection cut")

// ask gives a handler one request, without a network.
func ask(h http.Handler, r *http.Request) (w *httptest.ResponseRecorder, err error) {
	w = httptest.NewRecorder()
	defer func() {
		switch v := recover(); v {
		case nil:
		case http.ErrAbortHandler:
			err = errCut
		default:
			panic(v)
		}
	}()
	h.ServeHTTP(w, r)
	return w, nil
}

// request makes a request; headers are pairs.
func request(method, target, content string, headers ...string) *http.Request {
	var reader io.Reader
	if content != "" || method == http.MethodPatch || method == http.MethodPut || method == http.MethodPost {
		reader = strings.NewReader(content)
	}
	r := httptest.NewRequest(method, target, reader)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// get is ask for a request that is answered.
func get(t testing.TB, h http.Handler, method, target, content string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	w, err := ask(h, request(method, target, content, headers...))
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return w
}

func newServer(t testing.TB, r origin.Registry, o serve.Options) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(serve.New(r, o))
	t.Cleanup(srv.Close)
	return srv
}

// ingest is an upload in memory that fails as it is told.
type ingest struct {
	bytes.Buffer
	commit            error
	closed, cancelled int
}

func (in *ingest) ID() string  { return uploadID }
func (in *ingest) Size() int64 { return int64(in.Len()) }
func (in *ingest) Close() error {
	in.closed++
	return nil
}

func (in *ingest) Cancel() error {
	in.cancelled++
	return nil
}

func (in *ingest) Commit(context.Context, digest.Digest) (store.Info, error) {
	return store.Info{}, in.commit
}
