package local

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Others tells what other processes write.
type Others interface {
	// Publish tells the others that these records have changed, or are about to.
	Publish(ctx context.Context, keys ...string)
	// Settle returns once this process has been told all that others published before the
	// call, and they what it published, with some time to act upon it; who was not told is
	// not current. Its error says that this is not certain.
	Settle(ctx context.Context) error
	// Subscribe has changed called with the keys of records that others have written, and
	// missed where it may be any; neither blocks. current reports whether all has been
	// told but for the last moment.
	Subscribe(changed func(keys []string), missed func()) (current func() bool)
}

// Watcher is told what other processes do to blobs that may be evicted. Its methods do not
// block, and call nothing here.
type Watcher interface {
	// Relinked says that a repository links a blob by a mirror's word; or, where mirrored
	// is false, does not any more.
	Relinked(repo origin.Repo, d digest.Digest, mirrored bool)
	// Condemned says that a blob may be about to be removed, unless it is spared.
	Condemned(d digest.Digest)
	// Missed says that anything may have been done. Who lists what there is from now on
	// finds it.
	Missed()
}

type noWatcher struct{}

func (noWatcher) Relinked(origin.Repo, digest.Digest, bool) {}
func (noWatcher) Condemned(digest.Digest)                   {}
func (noWatcher) Missed()                                   {}

const (
	// lapse is for how long it is remembered that a repository may link what it was found
	// not to link: longer than it may take to write a link after that was announced.
	lapse = 2 * time.Minute
	// followers is how many records are looked at again at a time.
	followers = 4
	// backlog is how many may wait for it. Beyond it everything is forgotten.
	backlog = 10_000
	// lookLimit is how long the store may take to say what became of a record.
	lookLimit = 30 * time.Second
)

// follower keeps memory true while others write.
//
// What is told has changed leaves memory at once. That does not reach who is just reading
// the old record into it, or who changes a listing by it: so nothing is believed of the record
// until it was looked at again under its name's lock, which those hold.
type follower struct {
	registry *Registry
	others   Others
	current  func() bool

	doubts atomic.Int32 // while there are any, memory is not believed

	mu      sync.Mutex
	waiting map[string]struct{} // keys that are to be looked at
	looking int                 // goroutines that do
	gone    []goneLink          // the oldest one first
}

// goneLink is a link that was found not to be there.
type goneLink struct {
	content
	since time.Time
}

// follow has memory follow what others write.
func (r *Registry) follow(others Others) {
	f := &follower{registry: r, others: others, waiting: map[string]struct{}{}}
	r.follower = f
	r.manifests.trusted, r.tags.trusted, r.links.trusted = f.trusted, f.trusted, f.trusted
	r.names.trusted, r.referrers.trusted = f.trusted, f.trusted
	f.current = others.Subscribe(f.changed, f.missed)
}

// repeat tells the others of a record that was found as it is to be, before whoever wants it so
// is answered: the process that has written it may not have come to telling.
func (f *follower) repeat(ctx context.Context, key string) {
	if f != nil {
		f.others.Publish(ctx, key)
	}
}

// trusted reports whether memory may be believed.
func (f *follower) trusted() bool { return f.doubts.Load() == 0 && f.current() }

// missed forgets everything. What is just read into memory may be from before what was
// missed: so nothing is believed until all who hold a lock now have let go of it.
func (f *follower) missed() {
	f.doubts.Add(1)
	go func() {
		r := f.registry
		for _, set := range []*locks{r.manifestLocks, r.tagLocks, r.linkLocks} {
			set.pass()
		}
		r.manifests.purge()
		r.tags.purge()
		r.links.purge()
		r.names.lru.purge()
		r.referrers.lru.purge()
		r.linkers.incomplete()
		f.doubts.Add(-1)
		r.options().Watcher.Missed()
	}()
}

// pass waits until all who hold a lock when it is called have let go of it.
func (l *locks) pass() {
	for i := range l.stripes {
		pass(&l.stripes[i])
	}
}

func pass(l *sync.RWMutex) {
	l.Lock()
	defer l.Unlock()
}

// changed takes note of records that others have written.
func (f *follower) changed(keys []string) {
	for _, key := range keys {
		kind, repo, name := parseKey(key)
		switch kind {
		case "_t":
			f.registry.tags.doubt(tagKey{repo, name})
		case "_m":
			if d, ok := digestOfPath(name); ok {
				f.registry.manifests.doubt(content{repo, d})
			}
		case "_b":
			if d, ok := digestOfPath(name); ok {
				f.registry.links.doubt(content{repo, d})
				f.registry.linkers.add(content{repo, d})
			}
		case "_condemned":
			if d, ok := digestOfPath(name); ok {
				f.registry.options().Watcher.Condemned(d)
			}
			continue
		case "_r", "_repos":
		default:
			continue
		}
		f.look(key)
	}
}

// look has a record looked at again.
func (f *follower) look(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting[key] = struct{}{}
	if len(f.waiting) > backlog {
		clear(f.waiting)
		f.missed()
		return
	}
	if f.looking < followers {
		f.looking++
		go f.lookAll()
	}
}

// lookAll looks at records until none waits.
func (f *follower) lookAll() {
	for {
		key, ok := f.next()
		if !ok {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), lookLimit)
		f.registry.reread(ctx, key)
		cancel()
	}
}

// next takes a key that waits. Where there is none, whoever asks ends.
func (f *follower) next() (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key := range f.waiting {
		delete(f.waiting, key)
		return key, true
	}
	f.looking--
	return "", false
}

// reread makes of a record that another process has written what memory is to have of it:
// of what is looked up by name nothing, of listings what is there.
func (r *Registry) reread(ctx context.Context, key string) {
	kind, repo, name := parseKey(key)
	switch kind {
	case "_t":
		k := tagKey{repo, name}
		l := r.tagLocks.of(repo, name)
		l.Lock()
		defer l.Unlock()
		r.tags.believe(k)
		relist(r.names, prefixTags(repo), name, func() (item[struct{}], error) {
			_, err := r.records.Get(ctx, key)
			return item[struct{}]{key: name}, err
		})
	case "_m":
		if d, ok := digestOfPath(name); ok {
			l := r.manifestLocks.of(repo, d.String())
			l.Lock()
			defer l.Unlock()
			r.manifests.believe(content{repo, d})
		}
	case "_b":
		if d, ok := digestOfPath(name); ok {
			r.rereadLink(ctx, content{repo, d})
		}
	case "_r":
		r.rereadReferrer(ctx, repo, name, key)
	case "_repos":
		r.names.set(prefixRepos, item[struct{}]{key: repo.String()}) // it never ceases to exist
	}
}

// rereadLink tells what a link is now.
func (r *Registry) rereadLink(ctx context.Context, k content) {
	l := r.linkLocks.of(k.repo, k.digest.String())
	l.Lock()
	r.links.believe(k)
	r.linkers.add(k)
	l.Unlock()
	switch is, err := r.readLink(ctx, k); {
	case err == nil && is.mark == pushed:
		r.options().Pushed(k.digest)
	case err == nil:
		r.options().Watcher.Relinked(k.repo, k.digest, true)
	case origin.Unknown(err):
		r.options().Watcher.Relinked(k.repo, k.digest, false)
		r.lapseLinks(ctx, k)
	default:
		r.options().Watcher.Missed()
	}
}

// lapseLinks takes note that a link was found not to be there, and forgets those of which
// that was so long ago, and still is. What is not there may just have been announced.
func (r *Registry) lapseLinks(ctx context.Context, k content) {
	f := r.follower
	f.mu.Lock()
	f.gone = append(f.gone, goneLink{k, time.Now()})
	var due []goneLink
	for len(f.gone) > 0 && len(due) < followers && (len(f.gone) > backlog || time.Since(f.gone[0].since) > lapse) {
		due, f.gone = append(due, f.gone[0]), f.gone[1:]
	}
	f.mu.Unlock()
	for _, g := range due {
		if time.Since(g.since) > lapse {
			r.lapseLink(ctx, g.content)
		}
	}
}

func (r *Registry) lapseLink(ctx context.Context, k content) {
	l := r.linkLocks.of(k.repo, k.digest.String())
	l.Lock()
	defer l.Unlock()
	if _, err := r.readLink(ctx, k); origin.Unknown(err) {
		r.linkers.remove(k)
	}
}

func (r *Registry) rereadReferrer(ctx context.Context, repo origin.Repo, name, key string) {
	subject, d, ok := digestsOfPath(name)
	if !ok {
		return
	}
	l := r.manifestLocks.of(repo, d.String())
	l.Lock()
	defer l.Unlock()
	relist(r.referrers, prefixReferrers(repo, subject), d.String(), func() (item[referrer], error) {
		desc, size, err := r.readReferrer(ctx, key)
		return newReferrer(desc, size), err
	})
}

// relist lets a listing, if there is one, have an item if there is one. The caller holds
// the lock of the item's name.
func relist[T any](x *indexes[T], name, key string, read func() (item[T], error)) {
	if !x.holds(name) {
		return // whoever lists it from now on finds it as it is
	}
	it, err := read()
	switch {
	case err == nil:
		x.set(name, it)
	case errors.Is(err, store.ErrNotFound):
		x.remove(name, key)
	default:
		x.forget(name)
	}
}

// parseKey takes the key of a record apart: its kind ("_t" and so on, "" for what is none
// of these), its repository, and what follows.
func parseKey(key string) (kind string, repo origin.Repo, name string) {
	rest, ok := strings.CutPrefix(key, prefixAll+"/")
	if !ok {
		return "", origin.Repo{}, ""
	}
	path := ""
	if digest, ok := strings.CutPrefix(key, prefixCondemned+"/"); ok {
		return "_condemned", origin.Repo{}, digest
	}
	if strings.HasPrefix(key, prefixRepos+"/") {
		kind, path = "_repos", repoOfKey(key)
	} else if i := strings.Index(rest, "/_"); i >= 0 { // no component of a repository's name begins so
		path = rest[:i]
		kind, name, _ = strings.Cut(rest[i+1:], "/")
	}
	repo, err := origin.ParseRepo(path)
	if err != nil {
		return "", origin.Repo{}, ""
	}
	return kind, repo, name
}

// digestsOfPath is digestOfPath for two digests, one behind the other.
func digestsOfPath(path string) (first, second digest.Digest, ok bool) {
	parts := strings.SplitN(path, "/", 3)
	if len(parts) < 3 {
		return "", "", false
	}
	first, ok = digestOfPath(parts[0] + "/" + parts[1])
	if !ok {
		return "", "", false
	}
	second, ok = digestOfPath(parts[2])
	return first, second, ok
}
