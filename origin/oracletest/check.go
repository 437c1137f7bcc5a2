package oracletest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// errWrong says that a body ended without an error and is not what it should be.
var errWrong = errors.New("wrong content")

// Check reads everything back that the ledger speaks of. Nobody writes meanwhile. Its
// error joins all that is not as it may be.
func Check(ctx context.Context, reg origin.Registry, ledger *Ledger, world *World) error {
	_, err := checked(ctx, reg, ledger, world)
	return err
}

func checked(ctx context.Context, reg origin.Registry, ledger *Ledger, world *World) (*check, error) {
	c := &check{reg: reg, h: ledger.history(), found: map[thing]string{}}
	for _, t := range slices.SortedFunc(maps.Keys(c.h.writes), compare) {
		c.look(ctx, t)
	}
	for _, repo := range world.Repos {
		c.list(ctx, repo)
	}
	c.catalog(ctx, world)
	return c, errors.Join(c.errs...)
}

// CheckMirrored pulls all that the world has mirrored.
func CheckMirrored(ctx context.Context, reg origin.Registry, world *World) error {
	c := &check{reg: reg}
	for _, m := range world.Mirrored {
		c.mirrored(ctx, m)
	}
	return errors.Join(c.errs...)
}

func compare(a, b thing) int {
	return slices.Compare([]string{string(a.what), a.repo, a.name}, []string{string(b.what), b.repo, b.name})
}

type check struct {
	reg   origin.Registry
	h     history
	found map[thing]string // what each thing is found to be
	errs  []error
}

func (c *check) errorf(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// look asks for one thing.
func (c *check) look(ctx context.Context, t thing) {
	repo := mustRepo(t.repo)
	got := there
	var err error
	switch t.what {
	case blob:
		err = ReadBlob(ctx, c.reg, repo, digest.Digest(t.name))
	case manifest:
		err = c.manifest(ctx, repo, origin.ByDigest(digest.Digest(t.name)), digest.Digest(t.name))
	case tag:
		var d origin.Descriptor
		d, err = c.reg.Resolve(ctx, repo, mustTag(t.name))
		if err == nil {
			got = d.Digest.String()
			if err := c.manifest(ctx, repo, mustTag(t.name), d.Digest); err != nil {
				c.errorf("tag %s of %s names %s: %v", t.name, t.repo, d.Digest, err)
			}
		}
	default:
		return // found by listing
	}
	if origin.Unknown(err) {
		got, err = absent, nil
	}
	if err != nil {
		c.errorf("%s %s of %s cannot be read: %w", t.what, t.name, t.repo, err)
		return
	}
	c.judge(t, got)
}

// judge compares what a thing is with what it may be.
func (c *check) judge(t thing, got string) {
	c.found[t] = got
	if may := c.h.possible(t, never, never); !slices.Contains(may, got) {
		c.errorf("%s %s of %s is %q, and may be one of %q", t.what, t.name, t.repo, got, may)
	}
}

func (c *check) manifest(ctx context.Context, repo origin.Repo, ref origin.Ref, want digest.Digest) error {
	m, err := c.reg.Manifest(ctx, repo, ref)
	if err != nil {
		return err
	}
	return rightManifest(m, want)
}

// rightManifest wants that a manifest's bytes are what it says, and that it is the one
// wanted ("": any).
func rightManifest(m origin.Manifest, want digest.Digest) error {
	if want == "" {
		want = m.Digest
	}
	if got := want.Algorithm().FromBytes(m.Bytes); got != want || m.Digest != want {
		return fmt.Errorf("manifest %s is said to be %s and has the bytes of %s: %w", want, m.Digest, got, errWrong)
	}
	return nil
}

// ReadBlob wants that a blob's bytes, read to their end, are what its digest says.
// Errors: those of origin.Reader; ErrUnanswered where the body is cut short.
func ReadBlob(ctx context.Context, reg origin.Registry, repo origin.Repo, d digest.Digest) error {
	b, err := reg.Blob(ctx, repo, d, store.Range{})
	if err != nil {
		return err
	}
	v := d.Verifier()
	n, err := io.Copy(v, b.Body)
	if err := errors.Join(err, b.Body.Close()); err != nil {
		return fmt.Errorf("read blob %s of %s: %w: %w", d, repo, ErrUnanswered, err)
	}
	if !v.Verified() || b.Length >= 0 && n != b.Length {
		return fmt.Errorf("blob %s of %s has %d other bytes: %w", d, repo, n, errWrong)
	}
	return nil
}

// page is how many items of a listing are asked for at once.
const page = 3

// list compares a repository's listings with what was found.
func (c *check) list(ctx context.Context, repo origin.Repo) {
	tags, err := all(func(s string) string { return s }, func(p origin.Page) (origin.List[string], error) { return c.reg.Tags(ctx, repo, p) })
	if err != nil && !errors.Is(err, origin.ErrNameUnknown) {
		c.errorf("tags of %s: %w", repo, err)
		return
	}
	var found []string
	for t, is := range c.found {
		if is != absent && t.what == tag && t.repo == repo.String() {
			found = append(found, t.name)
		}
	}
	slices.Sort(found)
	if !slices.Equal(tags, found) {
		c.errorf("listed tags of %s are %q, and those that resolve %q", repo, tags, found)
	}
	listed := map[digest.Digest]bool{}
	for _, subject := range slices.Compact(slices.Sorted(maps.Values(c.h.subjects))) {
		list, err := all(func(d origin.Descriptor) string { return d.Digest.String() },
			func(p origin.Page) (origin.List[origin.Descriptor], error) {
				return c.reg.Referrers(ctx, repo, subject, "", p)
			})
		if err != nil {
			c.errorf("referrers of %s in %s: %w", subject, repo, err)
			return
		}
		for _, d := range list {
			listed[d.Digest] = true
			if c.h.subjects[d.Digest] != subject {
				c.errorf("%s is listed below %s in %s", d.Digest, subject, repo)
			}
			if c.found[thing{manifest, repo.String(), d.Digest.String()}] == absent {
				c.errorf("referrer %s of %s in %s is listed, and is not there", d.Digest, subject, repo)
			}
		}
	}
	for d := range c.h.subjects {
		t := thing{referrer, repo.String(), d.String()}
		got := absent
		if listed[d] {
			got = there
		}
		c.judge(t, got)
	}
}

// catalog compares the listing of repositories with those that exist.
func (c *check) catalog(ctx context.Context, world *World) {
	repos, err := all(origin.Repo.String, func(p origin.Page) (origin.List[origin.Repo], error) { return c.reg.Repos(ctx, p) })
	if err != nil {
		c.errorf("list repositories: %w", err)
		return
	}
	if !slices.IsSortedFunc(repos, func(a, b origin.Repo) int { return slices.Compare([]byte(a.String()), []byte(b.String())) }) {
		c.errorf("repositories are not listed in order: %v", repos)
	}
	for _, repo := range repos {
		mirrored := slices.ContainsFunc(world.Mirrored, func(m Mirrored) bool { return m.Repo == repo.String() })
		if !mirrored && !slices.Contains(world.Repos, repo) {
			c.errorf("repository %s is listed, and nobody made it", repo)
		}
	}
	for _, repo := range world.Repos {
		got := absent
		if slices.Contains(repos, repo) {
			got = there
		}
		c.judge(thing{repository, repo.String(), ""}, got)
	}
}

// mirrored wants that an image can be pulled, and is right.
func (c *check) mirrored(ctx context.Context, m Mirrored) {
	repo := mustRepo(m.Repo)
	if err := c.manifest(ctx, repo, mustTag(m.Tag), m.Manifest); err != nil {
		c.errorf("mirrored %s:%s: %w", m.Repo, m.Tag, err)
	}
	for _, d := range m.Blobs {
		if err := ReadBlob(ctx, c.reg, repo, d); err != nil {
			c.errorf("mirrored %s: %w", m.Repo, err)
		}
	}
}

// all reads a listing to its end.
func all[T any](key func(T) string, list func(origin.Page) (origin.List[T], error)) ([]T, error) {
	var items []T
	p := origin.Page{N: page}
	for {
		l, err := list(p)
		if err != nil {
			return nil, err
		}
		items = append(items, l.Items...)
		if !l.More {
			return items, nil
		}
		if len(l.Items) == 0 {
			return nil, errors.New("an empty page, and more to come")
		}
		p.After = key(l.Items[len(l.Items)-1])
	}
}
