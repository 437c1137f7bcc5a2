package origin

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/store"
)

// Registry is a registry: everything of the OCI Distribution specification 1.1
// that is not HTTP. It is cut by what a caller needs.
type Registry interface {
	Reader
	Writer
	Deleter
	Catalog
}

// Reader is the pull half; an upstream is exactly this.
//
// Where a repository does not exist, or may not be known to exist, its content
// does not exist either: ErrManifestUnknown, ErrBlobUnknown, or ErrNameUnknown.
// A registry that cannot say answers ErrUnavailable (or a wrapped other error),
// never "unknown".
type Reader interface {
	// Resolve describes a manifest without its bytes (HEAD).
	// Errors: ErrManifestUnknown, ErrNameUnknown.
	Resolve(ctx context.Context, repo Repo, ref Ref) (Descriptor, error)
	// Manifest gives a manifest's exact bytes, with the media type it was pushed
	// with. Errors: as Resolve.
	Manifest(ctx context.Context, repo Repo, ref Ref) (Manifest, error)
	// Stat describes a blob (HEAD); its Size is -1 where it cannot be known yet.
	// Errors: ErrBlobUnknown, ErrNameUnknown.
	Stat(ctx context.Context, repo Repo, d digest.Digest) (Descriptor, error)
	// Blob opens a range of a blob. The caller closes its Body. A Body whose bytes
	// turn out wrong ends with an error that is not io.EOF, before its last byte.
	// Errors: as Stat, and store.ErrRange.
	Blob(ctx context.Context, repo Repo, d digest.Digest, r store.Range) (Blob, error)
	// Tags lists a repository's tags in byte order. Errors: ErrNameUnknown. With
	// p.N == 0 nothing is listed, and the error alone tells whether it exists.
	Tags(ctx context.Context, repo Repo, p Page) (List[string], error)
	// Referrers lists the manifests of the repository whose subject is d, in the
	// order of their digests, all or those of one artifact type (if not "").
	// An unknown repository or digest has none: that is no error.
	Referrers(ctx context.Context, repo Repo, d digest.Digest, artifactType string, p Page) (List[Descriptor], error)
}

// Writer is the push half.
type Writer interface {
	// Push stores a manifest under its digest, and lets every tag of the options
	// name it. It answers with what was stored; readable and durable when it
	// returns. Errors: ErrManifestInvalid, ErrDigestInvalid, ErrManifestBlobUnknown,
	// ErrDenied (an immutable tag), ErrUnsupported.
	Push(ctx context.Context, repo Repo, m Manifest, o PushOptions) (Descriptor, error)
	// Upload begins (id "") or resumes the upload of a blob. Committing it links
	// the blob into the repository. Its errors are the registry's, not the store's.
	// The ID of another repository's upload is unknown here.
	// Errors: ErrUploadUnknown, ErrUploadInvalid (in use), ErrUnsupported.
	Upload(ctx context.Context, repo Repo, id string, alg digest.Algorithm) (store.Ingest, error)
	// Mount links a blob that repository from has into repository to, without its
	// bytes moving. The zero Repo as from stands for any repository the caller may
	// read. Errors: ErrBlobUnknown, ErrUnsupported.
	Mount(ctx context.Context, from, to Repo, d digest.Digest) (Descriptor, error)
}

// Deleter takes content out of a repository.
type Deleter interface {
	// DeleteManifest deletes a tag, or a manifest with all the tags that name it.
	// Errors: ErrManifestUnknown, ErrNameUnknown, ErrDenied (an immutable tag),
	// ErrUnsupported.
	DeleteManifest(ctx context.Context, repo Repo, ref Ref) error
	// DeleteBlob takes a blob out of a repository; others keep theirs.
	// Errors: ErrBlobUnknown, ErrNameUnknown, ErrUnsupported.
	DeleteBlob(ctx context.Context, repo Repo, d digest.Digest) error
}

// Catalog lists repositories.
type Catalog interface {
	// Repos lists the repositories in byte order.
	Repos(ctx context.Context, p Page) (List[Repo], error)
}

// Adopter is implemented by a Registry that can take over a verified local file
// as a blob without a copy.
type Adopter interface {
	// Adopt links the content of file, which has digest d, into the repository; see
	// store.Adopter. Errors: store.ErrForeign where a copy would be needed.
	Adopt(ctx context.Context, repo Repo, file *os.File, d digest.Digest) (Descriptor, error)
}

// Admitter is implemented by a Registry that can refuse a push before its bytes come.
type Admitter interface {
	// Admit gives the error that every push of a manifest to the repository would have
	// now; nil says nothing. Errors: ErrUnauthorized, ErrDenied.
	Admit(ctx context.Context, repo Repo) error
}

// Holder is implemented by a Registry that can say whether it has the bytes of a
// blob, whoever may read them. What it says is no right to read: it saves a
// mirror a download whose right was established elsewhere.
type Holder interface {
	// Holds describes a blob that any repository holds. Errors: ErrBlobUnknown.
	Holds(ctx context.Context, d digest.Digest) (Descriptor, error)
}

// Redirector is implemented by a Registry that knows where a client may fetch a blob's bytes
// by itself.
type Redirector interface {
	// BlobURL gives such a place. ok is false where there is none, and where nothing can be
	// said: then Blob answers. Errors: those of whoever does not let the caller read.
	BlobURL(ctx context.Context, repo Repo, d digest.Digest) (place Redirect, ok bool, err error)
}

// Redirect is where a client may fetch a blob.
type Redirect struct {
	// URL is good for a GET, whole or in ranges, by whoever knows it, for a short time. It
	// belongs to the one who asked: it is not logged, nor kept.
	URL    string
	Source Source
}

// Ranger is implemented by a Reader whose source may have no ranges, for a caller who
// can use the whole where a stretch was asked for.
type Ranger interface {
	// Stretch is Blob, but where the source has no ranges it gives all of the blob
	// rather than cutting the stretch out: Offset is 0 then, and Length is Size.
	// Errors: as Blob.
	Stretch(ctx context.Context, repo Repo, d digest.Digest, r store.Range) (Blob, error)
}

// PushOptions are the circumstances of a Push.
type PushOptions struct {
	// Tags are the tags that shall name the manifest.
	Tags []Ref
	// Sparse allows that blobs and children come later, and trusts the manifest's
	// structure: for mirrored content only, whose digest was verified.
	Sparse bool
}

// Descriptor describes a manifest or a blob, and says where it comes from.
type Descriptor struct {
	v1.Descriptor
	Source Source
}

// Manifest is a manifest's exact bytes; the descriptor has their media type,
// digest and size.
type Manifest struct {
	Descriptor
	Bytes []byte
}

// Blob is an opened blob: Body gives Length bytes from Offset on. Size and Length
// are -1 where an upstream did not say. Body may be an [io.WriterTo]: see
// store.Blob.
type Blob struct {
	Descriptor
	Offset, Length int64
	Body           io.ReadCloser
}

// Page asks for at most N items that come after the item After ("" = from the
// start), or after where a List said that the next page begins.
type Page struct {
	After string
	N     int
}

// IsMark reports whether s is written as the marks are that a List may have as its
// Next: "~" and at most 1024 letters, digits, "-" and "_". No name, tag or digest is.
func IsMark(s string) bool {
	const longest = 1 << 10
	mark, is := strings.CutPrefix(s, "~")
	return is && mark != "" && len(mark) <= longest && !strings.ContainsFunc(mark, func(c rune) bool {
		return (c < 'a' || 'z' < c) && (c < 'A' || 'Z' < c) && (c < '0' || '9' < c) && c != '-' && c != '_'
	})
}

// List is one page of a listing.
type List[T any] struct {
	Items []T
	More  bool // further items follow the last one
	// Next is what the next page comes after, where that is not the last item's name;
	// "" where it is.
	Next   string
	Source Source
}

// Cache says how a mirror came by an answer; it is the Weir-Cache header and the
// result label of the mirror's metrics.
type Cache string

// The ways a mirror comes by an answer.
const (
	Hit         Cache = "hit"         // from memory or the store
	Filled      Cache = "fill"        // bytes are being fetched, and kept
	Revalidated Cache = "revalidated" // the upstream said: unchanged
	Stale       Cache = "stale"       // past its time, and the upstream could not say, or said no
	Miss        Cache = "miss"        // the upstream was asked, nothing was kept; that something is not there, too
	Failed      Cache = "error"       // there is no answer
)

// Source says where a mirrored answer comes from. It is zero for local content.
type Source struct {
	Cache    Cache
	Upstream string // host of the endpoint, if one was asked
	Stale    string // why a stale answer is stale
}
