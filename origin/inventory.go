package origin

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// Kind is a kind of what a repository holds. Their order is that in which they are listed.
type Kind int

// The kinds.
const (
	KindLink     Kind = iota // of the blob Digest
	KindDeleted              // the manifest Digest was deleted, and others had it as their subject
	KindManifest             // Digest
	KindNote                 // that Tag came to name the manifest Digest
	KindReferrer             // the manifest Digest has the Subject
	KindTag                  // Tag
)

// Item is one thing that a repository holds.
type Item struct {
	Repo     Repo
	Kind     Kind
	Digest   digest.Digest
	Subject  digest.Digest
	Tag      string
	Modified time.Time // by the store's clock
}

// Link is a blob's place in a repository. That it was written is a lease: an upload, a
// mount, a HEAD and a manifest that names the blob write it anew.
type Link struct {
	Mirrored bool      // by a mirror, which gives it up itself: see Keeper
	Modified time.Time // by the store's clock
	Version  string
}

// Names is what a manifest says of other content.
type Names struct {
	Mirrored  bool
	Modified  time.Time       // by the store's clock
	Subject   digest.Digest   // "" if it has none
	Blobs     []digest.Digest // config and layers
	Manifests []digest.Digest // of an index
}

// Pushed is what a manifest says that a client has pushed.
type Pushed struct {
	Content
	// Sparse says that it came through a mirror, before a client pushed an index of it:
	// nobody has compared what it says of blobs, and they need not be here.
	Sparse bool
}

// Condemned is a blob that nothing seems to link.
type Condemned struct {
	Digest   digest.Digest
	Modified time.Time // since when, by the store's clock
	Version  string    // of its condemnation, which may be taken back and made again
}

// Inventory is implemented by a Registry that somebody may go through who decides what
// stays. It reads the store and not what memory has of it, so that it sees what other
// processes do.
type Inventory interface {
	// Now gives the time by the store's clock. It writes a record to learn it.
	Now(ctx context.Context) (time.Time, error)
	// Items lists all that repositories hold: one repository after the other, each in the
	// order of the kinds. What comes or goes meanwhile may be missing; whatever was there
	// all the time is not, or the listing ends with an error.
	Items(ctx context.Context) iter.Seq2[Item, error]
	// Link reads a link. Errors: ErrBlobUnknown.
	Link(ctx context.Context, repo Repo, d digest.Digest) (Link, error)
	// Names reads what a manifest names. Errors: ErrManifestUnknown.
	Names(ctx context.Context, repo Repo, d digest.Digest) (Names, error)
	// Named reads which manifest a tag names. Errors: ErrManifestUnknown.
	Named(ctx context.Context, repo Repo, tag string) (digest.Digest, error)
	// Bytes lists the blobs whose bytes are there, linked or not, in no order.
	Bytes(ctx context.Context) iter.Seq2[store.Info, error]
	// Condemned lists the blobs that are condemned, in no order, but for those that
	// somebody is removing.
	Condemned(ctx context.Context) iter.Seq2[Condemned, error]
	// Uploads lists those that are not finished, in no order.
	Uploads(ctx context.Context) iter.Seq2[store.IngestInfo, error]
}

// Sweeper is implemented by a Registry that takes away what an [Inventory] has shown to
// be needed by nobody. Each of its methods looks again, and refuses with [ErrInUse]
// where somebody has begun to rely on it since.
type Sweeper interface {
	// Unlink takes a blob out of a repository if its link is still as it was read.
	Unlink(ctx context.Context, repo Repo, d digest.Digest, was Link) error
	// Retire deletes a manifest that no tag names and that nobody has pushed or asked for
	// since before.
	Retire(ctx context.Context, repo Repo, d digest.Digest, before time.Time) error
	// Forget takes back that a subject was deleted before that.
	Forget(ctx context.Context, repo Repo, subject digest.Digest, before time.Time) error
	// Condemn says that nothing links a blob. Whoever links it from then on takes that
	// back. It is no error if it is condemned already.
	Condemn(ctx context.Context, d digest.Digest) error
	// Spare takes back that a blob is condemned.
	Spare(ctx context.Context, d digest.Digest) error
	// Remove removes the bytes of a blob that is still condemned as it was read, and gives
	// their number. The caller has listed all links after he read that, and found none.
	// Errors: ErrBlobUnknown, when there are none and it is not condemned any more.
	Remove(ctx context.Context, c Condemned) (size int64, err error)
	// Drop cancels an upload if no bytes have come to it since it was listed.
	Drop(ctx context.Context, u store.IngestInfo) error
}

// ErrInUse says that something is not swept, since somebody relies on it.
var ErrInUse = errors.New("origin: content is in use")
