package origin

import (
	"context"
	"errors"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// Keeper is implemented by a Registry that tells what a mirror keeps in it from what
// clients pushed to it, and gives up the former.
//
// What comes through [Adopter], a sparse Push or the Writer of Mirrored is mirrored;
// whatever else is written is pushed, and makes what it names pushed too. That stays
// so: what was pushed once is not mirrored again.
type Keeper interface {
	// Mirrored is a Writer whose uploads and mounts are mirrored content.
	Mirrored() Writer
	// Evictable lists the blobs that may be evicted, in no order: those that are
	// linked, and by mirrored repositories only. It reads every link.
	Evictable(ctx context.Context) iter.Seq2[Evictable, error]
	// MayEvict describes one of them, by those links that are known. Errors: ErrPushed,
	// ErrBlobUnknown.
	MayEvict(ctx context.Context, d digest.Digest) (Evictable, error)
	// Evict takes a blob out of all repositories, and removes its bytes. Those who
	// read them read on. Errors: ErrPushed, ErrBusy, ErrBlobUnknown (its links are gone
	// then, too).
	Evict(ctx context.Context, d digest.Digest) error
	// EvictFrom takes a blob out of one of several repositories that mirrors link it to. The
	// others have it, and its bytes, as before. Errors: ErrPushed, ErrBusy, ErrBlobUnknown
	// (of that repository), ErrOnly.
	EvictFrom(ctx context.Context, repo Repo, d digest.Digest) error
	// Spare keeps another process from removing a blob that it has begun to evict. Errors:
	// ErrInUse, where it is too late.
	Spare(ctx context.Context, d digest.Digest) error
}

// Evictable is a blob that may be evicted.
type Evictable struct {
	store.Info
	Repos []Repo // that link it
}

var (
	// ErrPushed says that a blob may not be evicted: some repository has it that a
	// client pushed to.
	ErrPushed = errors.New("origin: blob was pushed")
	// ErrBusy says that a blob is not evicted because somebody is linking it, or
	// because it is not known yet who links it.
	ErrBusy = errors.New("origin: blob is in use")
	// ErrOnly says that a blob is in no other repository than the one that it was to be
	// taken out of: its bytes are to be evicted.
	ErrOnly = errors.New("origin: blob is in one repository only")
)
