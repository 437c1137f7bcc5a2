package origin

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
)

// Tagged is what a tag names.
type Tagged struct {
	Digest   digest.Digest
	PushedAt time.Time // when it was last pushed, give or take an hour, by whoever took that
	Modified time.Time // the same by the store's clock
}

// Described is what a manifest says, as far as rules about images ask.
type Described struct {
	Names
	MediaType    string
	ArtifactType string
	Annotations  map[string]string
	Size         int64    // of its Blobs in bytes, each counted once
	Tags         []string // that it was first pushed with
	Suspect      bool     // see Retirer
}

// Retirer is implemented by a Registry whose tags and manifests may go by a rule. It
// reads the store and not what memory has of it, as Inventory does.
//
// A manifest goes in three steps, so that nothing depends on a lock. Whoever retires it
// makes it suspect, then looks who names it, and then discards it if nobody does. Whoever
// lets a tag or an index name it looks, after that is written, whether it is suspect, and
// clears it of that; so one of the two sees the other.
type Retirer interface {
	// Immutable reports whether a tag stays whatever rules say.
	Immutable(repo Repo, tag string) bool
	// Tagged reads what a tag names. Errors: ErrManifestUnknown.
	Tagged(ctx context.Context, repo Repo, tag string) (Tagged, error)
	// Described reads what a manifest says. Errors: ErrManifestUnknown.
	Described(ctx context.Context, repo Repo, d digest.Digest) (Described, error)
	// Untag deletes a tag if it still is as it was read. Errors: ErrInUse if it is not,
	// ErrDenied if it is immutable.
	Untag(ctx context.Context, repo Repo, tag string, was Tagged) error
	// Suspect makes a manifest suspect. Errors: ErrManifestUnknown.
	Suspect(ctx context.Context, repo Repo, d digest.Digest) error
	// Clear takes that back.
	Clear(ctx context.Context, repo Repo, d digest.Digest) error
	// Discard deletes a manifest that is suspect still, that no tag names and that nobody
	// seems to be about to name, who has lately pushed it by its digest or asked for it.
	// Errors: ErrInUse.
	Discard(ctx context.Context, repo Repo, d digest.Digest) error
}
