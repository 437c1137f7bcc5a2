package origin

import (
	"context"
	"fmt"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/store"
)

// Change is what a client did to a manifest.
type Change struct {
	Repo Repo
	// Tag is the tag that came to name the manifest, or that was deleted; "" = the
	// manifest itself was.
	Tag string
	// Descriptor is the manifest's. Of a deletion only the digest is sure to be known.
	v1.Descriptor
}

// Entry is what a Journal writes down of a change.
type Entry struct {
	Writes []store.Write
	// Written is told once the writes are durable, or some of them may be; nil: nobody is.
	Written func()
}

// Write writes an entry down by itself. Each write is tried, and Written told whatever came
// of them: those who can be told shall not wait because others cannot. What fails for
// another reason than want of room is the error rather than what does for that.
func (e Entry) Write(ctx context.Context, records store.Records) error {
	var failed error
	for _, w := range e.Writes {
		_, err := records.Put(ctx, w.Key, w.Data, w.If)
		if err != nil && (failed == nil || store.NoRoom(failed)) {
			failed = fmt.Errorf("write down what happens: %w", err)
		}
	}
	if e.Written != nil {
		e.Written()
	}
	return failed
}

// Journal writes down what happens to manifests, in the commit that makes it happen.
// Whoever makes a change asks for its entry under the locks of that change, so that the
// entries of one tag, and of one manifest, come in the order of what they tell.
type Journal interface {
	// Pushed gives what is written with a push: behind all that the push itself writes,
	// and before it is acknowledged.
	Pushed(ctx context.Context, c Change) Entry
	// Deleted gives what is written before a deletion, and what is written once it has
	// happened, in the place of the former, before it is acknowledged. Where nothing was
	// deleted, what was written before is taken back; where nobody can know, it stays, and
	// the Journal has to look.
	Deleted(ctx context.Context, c Change) (before, after Entry)
}
