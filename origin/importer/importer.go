package importer

import (
	"context"
	"errors"
	"io/fs"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Registry is what images are taken into and given out of.
type Registry interface {
	origin.Reader
	origin.Writer
}

// Options are the circumstances of an import.
type Options struct {
	// Linker takes over files without a copy, where the registry keeps its blobs; nil:
	// all are copied.
	Linker store.Linker
	// MaxManifestSize is the largest manifest that is read, in bytes.
	MaxManifestSize int64
	// Show is told how it goes on.
	Show Show
}

// Show is told how an import or an export goes on. Its methods may be called at the same
// time.
type Show interface {
	// Blob begins to show a blob that is moved; of says what for, a repository or an
	// image.
	Blob(of string, d v1.Descriptor) Bar
	// Done says what was done with a repository, or with the image that has that digest.
	Done(of string, d digest.Digest, s Summary)
	// Moved says that a tag named another manifest before.
	Moved(of string, from, to digest.Digest)
	// Failed says what was not taken, and why.
	Failed(of string, err error)
}

// Bar shows one blob on its way.
type Bar interface {
	// Add says that n bytes more were read.
	Add(n int)
	// End is called once.
	End(err error)
}

// Summary counts what an import has done.
type Summary struct {
	Manifests, Tags, Blobs int   // that were taken
	Linked                 int   // of the blobs: without a copy
	Bytes                  int64 // of the blobs
	Present                int   // manifests and tags that were there
	Unnamed                int   // blobs that no manifest names, which stay where they are
	Failed                 int   // things that were not taken, each of which was shown
}

// Changed reports whether anything was taken.
func (s Summary) Changed() bool { return s.Manifests > 0 || s.Tags > 0 || s.Blobs > 0 }

// less is what was done since a summary was like before.
func (s Summary) less(before Summary) Summary {
	return Summary{
		Manifests: s.Manifests - before.Manifests, Tags: s.Tags - before.Tags,
		Blobs: s.Blobs - before.Blobs, Linked: s.Linked - before.Linked, Bytes: s.Bytes - before.Bytes,
		Present: s.Present - before.Present, Unnamed: s.Unnamed - before.Unnamed, Failed: s.Failed - before.Failed,
	}
}

const (
	// atATime is how many manifests, and how many blobs, are taken at a time: enough for
	// their syncs to be shared, and for a source that answers over a network.
	atATime = 8
	// deepest is how deep indexes may lie in indexes.
	deepest = 16
)

// errNotThere says that the source does not have something.
var errNotThere = errors.New("is not there")

// source is where one repository's content is read.
type source interface {
	// manifest gives bytes that have that digest. Errors: errNotThere.
	manifest(ctx context.Context, d digest.Digest) ([]byte, error)
	// blob opens what is said to be that blob. Errors: errNotThere.
	blob(ctx context.Context, d digest.Digest) (fs.File, error)
}

// taker is one import.
type taker struct {
	to    Registry
	opts  Options
	turns *semaphore.Weighted // of blobs

	mu       sync.Mutex
	sum      Summary
	verified map[digest.Digest]struct{} // blobs that the source was seen to have
	copies   bool                       // linking has failed: what follows is copied
}

func newTaker(to Registry, o Options) *taker {
	return &taker{to: to, opts: o, turns: semaphore.NewWeighted(atATime), verified: map[digest.Digest]struct{}{}}
}

// count changes the summary.
func (t *taker) count(how func(*Summary)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	how(&t.sum)
}

// failed counts and shows one thing that is not taken.
func (t *taker) failed(of string, err error) {
	t.count(func(s *Summary) { s.Failed++ })
	t.opts.Show.Failed(of, err)
}

// memo is what was once done, or is being done: whoever comes later gets the same error.
type memo struct {
	mu   sync.Mutex
	done map[digest.Digest]*outcome
}

type outcome struct {
	once sync.Once
	err  error
}

func (m *memo) do(d digest.Digest, f func() error) error {
	m.mu.Lock()
	if m.done == nil {
		m.done = map[digest.Digest]*outcome{}
	}
	o := m.done[d]
	if o == nil {
		o = new(outcome)
		m.done[d] = o
	}
	m.mu.Unlock()
	o.once.Do(func() { o.err = f() })
	return o.err
}

// has reports whether something was begun.
func (m *memo) has(d digest.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.done[d] != nil
}
