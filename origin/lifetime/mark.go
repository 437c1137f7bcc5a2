package lifetime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/origin"
)

// mark goes through all repositories, has links taken away that are past their grace and
// that no manifest names, and collects what stays linked. Its error says that the listing
// lacks something: then nothing is known of what it lacks.
func (r *run) mark(ctx context.Context) error {
	var m *marking
	for it, err := range r.inventory.Items(ctx) {
		if err != nil {
			if m != nil {
				_ = m.readers.Wait() // and nothing comes of it
			}
			return err
		}
		if m == nil || m.repo != it.Repo {
			m.end(ctx)
			m = newMarking(r, it.Repo)
		}
		m.item(ctx, it)
	}
	m.end(ctx)
	return nil
}

// marking is one repository that is gone through. Its items come in the order of their
// kinds: what is looked into is sealed when the first of the next kind comes.
type marking struct {
	*run
	repo origin.Repo
	kind origin.Kind // of the last item

	links     *table[state]
	long      map[key]digest.Digest  // the digests here and below that their key does not tell
	manifests *table[struct{}]       // all that are listed
	deleted   map[digest.Digest]bool // subjects that were deleted longer than the grace ago

	readers errgroup.Group
	mu      sync.Mutex
	orphans []orphan               // manifests of deleted subjects
	child   *table[struct{}]       // what indexes name
	held    map[digest.Digest]bool // what tags and indexes name, while there are such subjects
	errs    []error                // what is wrong with it
}

// state is what is known of a link.
type state uint8

const (
	lapsed state = iota // past its grace
	needed              // and a manifest names it
	young               // not past its grace
)

// orphan is a manifest whose subject was deleted.
type orphan struct {
	digest  digest.Digest
	subject digest.Digest
	names   origin.Names
}

func newMarking(r *run, repo origin.Repo) *marking {
	m := &marking{
		run: r, repo: repo, links: &table[state]{}, long: map[key]digest.Digest{}, manifests: &table[struct{}]{}, child: &table[struct{}]{},
		deleted: map[digest.Digest]bool{}, held: map[digest.Digest]bool{},
	}
	m.readers.SetLimit(atOnce)
	return m
}

// wrong takes note that the repository cannot be judged.
func (m *marking) wrong(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	const enough = 10
	if len(m.errs) < enough {
		m.errs = append(m.errs, err)
	}
}

func (m *marking) item(ctx context.Context, it origin.Item) {
	m.enter(it.Kind)
	switch it.Kind {
	case origin.KindLink:
		k, is := keyOf(it.Digest), lapsed
		if !it.Modified.Before(m.before) {
			is = young
		}
		m.links.add(k, is)
		m.remember(k, it.Digest)
	case origin.KindDeleted:
		if it.Modified.Before(m.before) {
			m.deleted[it.Digest] = true
		}
	case origin.KindManifest:
		m.manifests.add(keyOf(it.Digest), struct{}{})
		m.read(func() error { return m.manifest(ctx, it.Digest, true) })
	case origin.KindNote, origin.KindReferrer:
		m.read(func() error { return m.listed(ctx, it.Digest) })
	case origin.KindTag:
		m.read(func() error { return m.tag(ctx, it.Tag) })
	}
}

// enter makes ready what items of that kind are looked up in.
func (m *marking) enter(kind origin.Kind) {
	if m.kind == kind {
		return
	}
	if m.kind <= origin.KindDeleted && kind > origin.KindDeleted {
		m.links.seal(func(a, b state) bool { return a > b })
	}
	if m.kind <= origin.KindManifest && kind > origin.KindManifest {
		m.manifests.seal(func(a, b struct{}) bool { return true })
	}
	m.kind = kind
}

// read has something read, beside others.
func (m *marking) read(f func() error) {
	m.readers.Go(func() error {
		if err := f(); err != nil {
			m.wrong(err)
		}
		return nil
	})
}

// manifest marks what a manifest names. One that is deleted meanwhile names nothing.
func (m *marking) manifest(ctx context.Context, d digest.Digest, listed bool) error {
	n, err := m.inventory.Names(ctx, m.repo, d)
	switch {
	case origin.Unknown(err):
		return nil
	case err != nil:
		return err
	case !listed && n.Modified.Before(m.now):
		return fmt.Errorf("manifest %s of %s is missing from the listing", d, m.repo)
	}
	if !n.Mirrored {
		// What a mirror has not fetched is not missing.
		if err := m.complete(ctx, n); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.deleted[n.Subject] && !n.Mirrored {
		m.orphans = append(m.orphans, orphan{d, n.Subject, n})
	} else {
		m.name(n)
	}
	if n.Mirrored {
		return nil
	}
	for _, d := range n.Manifests {
		m.child.add(keyOf(d), struct{}{})
		m.remember(keyOf(d), d)
		if len(m.deleted) > 0 {
			m.held[d] = true
		}
	}
	return nil
}

// complete wants that the links that a manifest needs are among those listed, unless they
// are gone or new.
func (m *marking) complete(ctx context.Context, n origin.Names) error {
	m.mu.Lock()
	missing := slices.DeleteFunc(slices.Clone(n.Blobs), func(d digest.Digest) bool { return m.links.find(keyOf(d)) != nil })
	m.mu.Unlock()
	for _, d := range missing {
		switch l, err := m.inventory.Link(ctx, m.repo, d); {
		case origin.Unknown(err):
		case err != nil:
			return err
		case l.Modified.Before(m.now):
			// Then others may be, too, and of them nobody knows.
			m.blind.Store(true)
			return fmt.Errorf("link of %s in %s is missing from the listing", d, m.repo)
		}
	}
	return nil
}

// name marks the links that a manifest needs; m.mu is held.
func (m *marking) name(n origin.Names) {
	for _, list := range [][]digest.Digest{n.Blobs, n.Manifests} {
		for _, d := range list {
			if is := m.links.find(keyOf(d)); is != nil && *is == lapsed {
				*is = needed
			}
		}
	}
}

// remember keeps a digest that is more than its key; m.mu is held, or nobody reads yet.
func (m *marking) remember(k key, d digest.Digest) {
	if d.Algorithm() != digest.SHA256 {
		m.long[k] = d
	}
}

// listed wants that a manifest which something speaks of is among those listed, unless it
// is gone or new.
func (m *marking) listed(ctx context.Context, d digest.Digest) error {
	if m.manifests.find(keyOf(d)) != nil {
		return nil
	}
	return m.manifest(ctx, d, false)
}

// A push whose manifest another process deletes meanwhile may have written the tag already, and
// writes the manifest again. So a tag without its manifest is looked at for that long.
const (
	looks     = 12
	lookAgain = 200 * time.Millisecond
)

// tag wants that the manifest that a tag names is among those listed, or is new.
func (m *marking) tag(ctx context.Context, tag string) error {
	for last, look := digest.Digest(""), 0; ; {
		d, err := m.inventory.Named(ctx, m.repo, tag)
		if origin.Unknown(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(m.deleted) > 0 {
			m.mu.Lock()
			m.held[d] = true
			m.mu.Unlock()
		}
		if m.manifests.find(keyOf(d)) != nil {
			return nil
		}
		_, err = m.inventory.Names(ctx, m.repo, d)
		if !origin.Unknown(err) {
			return errors.Join(err, m.manifest(ctx, d, false))
		}
		if d != last { // it has moved, and its manifest is deleted
			last = d
			continue
		}
		if look++; look == looks || m.isWrong() {
			return fmt.Errorf("tag %s of %s names %s, which is not there", tag, m.repo, d)
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// isWrong reports whether the repository is kept as it is, whatever else is found.
func (m *marking) isWrong() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.errs) > 0
}

// end decides on the repository. What is wrong with it keeps all that it has.
func (m *marking) end(ctx context.Context) {
	if m == nil {
		return
	}
	const beyond = origin.KindTag + 1
	m.enter(beyond)
	_ = m.readers.Wait() // what went wrong is noted
	m.child.seal(func(a, b struct{}) bool { return true })
	for k := range m.child.all {
		if m.manifests.find(k) == nil {
			d := m.digest(k)
			m.read(func() error { return m.listed(ctx, d) })
		}
	}
	_ = m.readers.Wait()
	if err := ctx.Err(); err != nil {
		m.wrong(err)
	}
	if len(m.errs) == 0 {
		m.retire(ctx)
	}
	if len(m.errs) > 0 {
		m.fail(fmt.Errorf("repository %s is kept as it is: %w", m.repo, errors.Join(m.errs...)))
	}
	var group errgroup.Group
	group.SetLimit(atOnce)
	for k, is := range m.links.all {
		switch {
		case len(m.errs) > 0:
			m.stays(k, unread)
		case *is == needed:
			m.stays(k, named)
		case *is == young:
			m.stays(k, leased)
		default:
			group.Go(func() error {
				if why := m.unlink(ctx, m.digest(k)); why != 0 {
					m.stays(k, why)
				}
				return nil
			})
		}
	}
	_ = group.Wait() // its errors are noted
}

func (m *marking) digest(k key) digest.Digest {
	if d, ok := m.long[k]; ok {
		return d
	}
	return digest.NewDigestFromBytes(digest.SHA256, k[:])
}

// stays takes note of a blob that stays linked.
func (m *marking) stays(k key, why reason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.linked.add(k, why)
}

// unlink takes away a link that was past its grace, and gives 0; or why it stays.
func (m *marking) unlink(ctx context.Context, d digest.Digest) reason {
	l, err := m.inventory.Link(ctx, m.repo, d)
	switch {
	case origin.Unknown(err):
		return 0
	case err == nil && !l.Modified.Before(m.before):
		return leased
	case err == nil && l.Mirrored:
		return cached
	case err == nil && m.to != nil:
		err = m.to.Unlink(ctx, m.repo, d, l)
	}
	if errors.Is(err, origin.ErrInUse) {
		return leased
	}
	if err != nil {
		m.fail(err)
		return unread
	}
	return 0
}

// retire deletes the manifests whose subject was deleted longer than the grace ago, unless
// a tag or an index names them, or somebody relied on them since.
func (m *marking) retire(ctx context.Context) {
	for _, o := range m.orphans {
		if m.manifests.find(keyOf(o.subject)) == nil && !m.held[o.digest] {
			err := error(origin.ErrInUse)
			switch {
			case !o.names.Modified.Before(m.before):
			case m.to == nil:
				continue
			default:
				err = m.to.Retire(ctx, m.repo, o.digest, m.before)
			}
			switch {
			case err == nil:
				continue
			case errors.Is(err, origin.ErrInUse):
				m.deleted[o.subject] = false // to be looked at again
			default:
				m.wrong(err)
			}
		}
		m.mu.Lock()
		m.name(o.names)
		m.mu.Unlock()
	}
	for subject, done := range m.deleted {
		if !done || m.to == nil || len(m.errs) > 0 {
			continue
		}
		if err := m.to.Forget(ctx, m.repo, subject, m.before); err != nil && !errors.Is(err, origin.ErrInUse) {
			m.wrong(err)
		}
	}
}
