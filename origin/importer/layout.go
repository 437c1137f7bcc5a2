package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/weir-registry/weir/origin"
)

// Name is where an image goes: a repository and perhaps a tag.
type Name struct {
	Repo   origin.Repo
	Tag    string        // "": none was said
	Digest digest.Digest // "": none was said
}

// Names gives the places of images.
type Names struct {
	// Parse reads a whole name, as docker.io/library/nginx:1.27 is one.
	Parse func(whole string) (Name, error)
	// Rest is where images go that the layout gives no whole name; zero: none was said.
	Rest Name
}

// Layout takes over the images of an OCI image layout into to. An image is taken whole or
// not at all; a manifest without a name that refers to one that is taken goes where that
// goes.
//
// What is not taken is shown and counted; an error ends the import. Errors: ErrNoLayout.
func Layout(ctx context.Context, dir fs.FS, to Registry, names Names, o Options) (Summary, error) {
	t := newTaker(to, o)
	x, err := readIndex(dir)
	if err != nil {
		return t.sum, err
	}
	l := &layout{taker: t, dir: dir, names: names, into: map[origin.Repo]*intake{}, reach: map[digest.Digest]map[origin.Repo]struct{}{}}
	images := l.place(x.entries)
	return t.sum, l.take(ctx, images)
}

// layout is one layout that is being taken over.
type layout struct {
	*taker
	dir   fs.FS
	names Names
	into  map[origin.Repo]*intake
	reach map[digest.Digest]map[origin.Repo]struct{} // manifests, and the repositories they go to
}

// placed is an entry and where it goes.
type placed struct {
	entry v1.Descriptor
	Name
}

func (p placed) String() string {
	if p.Tag != "" {
		return p.Repo.String() + ":" + p.Tag
	}
	return p.Repo.String() + "@" + p.entry.Digest.String()
}

// place says where entries go: those with names, those that refer to them, and where the
// rest goes.
func (l *layout) place(entries []v1.Descriptor) []placed {
	var images []placed
	put := func(e v1.Descriptor, n Name) {
		images = append(images, placed{e, n})
		l.reaches(e.Digest, n.Repo, deepest)
	}
	var nameless []v1.Descriptor
	for _, e := range entries {
		n, ok, err := l.name(e)
		switch {
		case err != nil:
			l.failed(describe(e), err)
		case !ok:
			nameless = append(nameless, e)
		default:
			put(e, n)
		}
	}
	// What refers to a manifest may itself be referred to.
	for found := true; found; {
		found = false
		nameless = slices.DeleteFunc(nameless, func(e v1.Descriptor) bool {
			repos := l.reach[l.relations(e.Digest).subject()]
			for _, repo := range slices.SortedFunc(maps.Keys(repos), func(a, b origin.Repo) int { return strings.Compare(a.String(), b.String()) }) {
				put(e, Name{Repo: repo})
			}
			found = found || len(repos) > 0
			return len(repos) > 0
		})
	}
	refers := func(e v1.Descriptor) bool { return l.relations(e.Digest).subject() != "" }
	first := slices.DeleteFunc(slices.Clone(nameless), refers)
	nameless = slices.DeleteFunc(nameless, func(e v1.Descriptor) bool { return !refers(e) })
	for _, e := range first {
		if n, err := l.rest(e, len(first)); err != nil {
			l.failed(describe(e), err)
		} else {
			put(e, n)
		}
	}
	for _, e := range nameless { // they refer to one of these, or to what is not here
		if n := l.names.Rest; n.Repo.IsZero() {
			l.failed(describe(e), ErrNameless)
		} else {
			put(e, Name{Repo: n.Repo})
		}
	}
	return images
}

// ErrNameless says that nothing tells where an image goes: Names.Rest could.
var ErrNameless = fmt.Errorf("its whole name (%s) is missing", annotationName)

// rest gives the place of one of n images that have no whole name.
func (l *layout) rest(e v1.Descriptor, n int) (Name, error) {
	name := l.names.Rest
	switch {
	case name.Repo.IsZero():
		return name, ErrNameless
	case name.Tag == "":
		name.Tag = tagOf(e)
	case n > 1:
		return name, fmt.Errorf("it is one of %d that have no whole name, and the tag that was said for them is for one only", n)
	}
	return name, nil
}

// tagOf is the tag that an entry says, or "".
func tagOf(e v1.Descriptor) string {
	ref, err := origin.ParseTag(e.Annotations[v1.AnnotationRefName])
	if err != nil {
		return ""
	}
	return ref.Tag()
}

// describe is what an entry is called that has no whole name.
func describe(e v1.Descriptor) string {
	if ref := e.Annotations[v1.AnnotationRefName]; ref != "" {
		return fmt.Sprintf("%s (%s)", e.Digest, origin.Quote(ref))
	}
	return e.Digest.String()
}

// name gives the place that an entry's whole name says. ok is false where it has none.
func (l *layout) name(e v1.Descriptor) (n Name, ok bool, err error) {
	ref := e.Annotations[v1.AnnotationRefName]
	whole := e.Annotations[annotationName]
	if whole == "" && strings.ContainsAny(ref, "/:") && !isDigest(ref) {
		whole = ref // skopeo and others write what they are told
	}
	if whole == "" {
		return n, false, nil
	}
	if n, err = l.names.Parse(whole); err != nil {
		return n, false, told(err)
	}
	if n.Digest != "" && n.Digest != e.Digest {
		return n, false, fmt.Errorf("its name %s has another digest", origin.Quote(whole))
	}
	if n.Tag == "" && n.Digest == "" {
		n.Tag = tagOf(e)
	}
	return n, true, nil
}

func isDigest(s string) bool {
	_, err := origin.ParseDigest(s)
	return err == nil
}

// reaches notes that a manifest goes to a repository, and what it names as well.
func (l *layout) reaches(d digest.Digest, repo origin.Repo, depth int) {
	if l.reach[d] == nil {
		l.reach[d] = map[origin.Repo]struct{}{}
	}
	if _, ok := l.reach[d][repo]; ok || depth == 0 {
		return
	}
	l.reach[d][repo] = struct{}{}
	for _, m := range l.relations(d).Manifests {
		if isDigest(m.Digest.String()) {
			l.reaches(m.Digest, repo, depth-1)
		}
	}
}

// relations are what a manifest says of others.
type relations struct {
	Manifests []v1.Descriptor `json:"manifests"`
	Subject   *v1.Descriptor  `json:"subject"`
}

// relations reads what a manifest says of others: nothing, where it cannot be read. Who takes
// it says what is wrong with it.
func (l *layout) relations(d digest.Digest) relations {
	var says relations
	b, err := l.manifest(context.Background(), d)
	if err == nil {
		err = json.Unmarshal(b, &says)
	}
	if err != nil {
		return relations{}
	}
	return says
}

// subject is what a manifest refers to, or "".
func (r relations) subject() digest.Digest {
	if r.Subject == nil {
		return ""
	}
	return r.Subject.Digest
}

// take takes all manifests, and then lets tags name them.
func (l *layout) take(ctx context.Context, images []placed) error {
	for _, p := range images {
		if l.into[p.Repo] == nil {
			l.into[p.Repo] = &intake{taker: l.taker, repo: p.Repo, from: l}
		}
	}
	var group errgroup.Group
	group.SetLimit(atATime)
	for _, p := range images {
		group.Go(func() error {
			_ = l.entry(ctx, p) // it is asked again
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, p := range images {
		err := l.entry(ctx, p)
		if err == nil && p.Tag != "" {
			err = l.into[p.Repo].tag(ctx, p.Tag, p.entry.Digest)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			l.failed(p.String(), err)
		default:
			l.opts.Show.Done(p.String(), p.entry.Digest, Summary{})
		}
	}
	return nil
}

// entry takes an entry's manifest, once.
func (l *layout) entry(ctx context.Context, p placed) error {
	return l.into[p.Repo].manifest(ctx, p.entry.Digest, p.entry.MediaType, deepest)
}

// manifest implements source.
func (l *layout) manifest(_ context.Context, d digest.Digest) ([]byte, error) {
	f, err := l.open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readManifest(f, d, l.opts.MaxManifestSize)
}

// blob implements source.
func (l *layout) blob(_ context.Context, d digest.Digest) (fs.File, error) { return l.open(d) }

func (l *layout) open(d digest.Digest) (fs.File, error) {
	f, err := l.dir.Open(blobFile(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNotThere
	}
	return f, err
}
