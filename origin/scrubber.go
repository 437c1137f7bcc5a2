package origin

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// Scrubber is implemented by a Registry whose content may be read again and compared with
// its digests.
type Scrubber interface {
	// Raw opens the bytes of a blob, whoever links it. Of one that is too damaged to be
	// opened they end in ErrDamaged. Errors: ErrBlobUnknown.
	Raw(ctx context.Context, d digest.Digest) (store.Blob, error)
	// Quarantine takes away the bytes of a blob that turned out wrong, if they still are
	// those that were read. It is unknown then until it comes again. Errors: ErrInUse if
	// they are not, ErrBlobUnknown.
	Quarantine(ctx context.Context, was store.Info) error
	// Mend writes anew what can be derived of an item and is missing or damaged: the header of
	// a manifest and its place among the referrers of its subject, a tag that only one
	// manifest knows of and that its manifest knows of it, a link, the repository itself; and
	// takes away an entry among referrers that nobody is about to write the manifest of.
	// Errors: ErrDamaged where the item is damaged still; a *LostError.
	Mend(ctx context.Context, it Item) (mended bool, err error)
}

// ErrDamaged says that a blob, a manifest or a record is not what its name promises. It is
// never "not found": what cannot be read is not absent.
var ErrDamaged = store.ErrDamaged

// LostError says that a manifest is gone that a tag speaks of. It is ErrDamaged.
type LostError struct{ Digest digest.Digest }

// Error implements error.
func (e *LostError) Error() string { return "manifest " + e.Digest.String() + " is gone" }

// Is makes it ErrDamaged.
func (e *LostError) Is(target error) bool { return target == ErrDamaged }

// Remembered is one thing that a mirror remembers of its upstreams.
type Remembered struct {
	Repo    Repo
	Digest  digest.Digest // of a manifest; "" of a tag, or of what refers to a manifest
	Damaged bool          // it was, and is forgotten: whoever wants it has it asked for again
}
