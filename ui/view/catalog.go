package view

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

const (
	// mostShown is how many entries of a list are decided on, and so shown, at once.
	mostShown = 200
	// mostTags is how many tags a page has: what each of them names is read.
	mostTags = 100
	// searched is how many names are looked through for those that a page of a search has.
	searched = 10_000
	// longestSearch is the longest text that is searched for, in bytes: no name is longer.
	longestSearch = 255
	// together is how many tags are looked at at a time: a store may be far away.
	together = 8
)

// Repositories lists those that have content here, and whose names have all words of
// search in them.
func (v *View) Repositories(ctx context.Context, search string, p origin.Page) (origin.List[Repository], error) {
	var shown origin.List[Repository]
	if err := v.listing(ctx, "repositories"); err != nil {
		return shown, err
	}
	if err := searchable(search); err != nil {
		return shown, err
	}
	p.N = min(p.N, mostShown)
	list, err := guard.List(ctx, v.opts.Guard, guard.Listing[origin.Repo]{
		Of: "repositories with " + search,
		Page: func(p origin.Page) (origin.List[origin.Repo], error) {
			return find(p, origin.Repo.String, search, func(p origin.Page) (origin.List[origin.Repo], error) { return v.opts.Here.Repos(ctx, p) })
		},
		Name: origin.Repo.String,
		What: func(repo origin.Repo) (origin.Repo, authz.Access) {
			return repo, authz.Access{Action: authz.Pull, Operation: "list-catalog"}
		},
	}, p)
	if err != nil {
		return shown, err
	}
	shown.More, shown.Next = list.More, list.Next
	for _, repo := range list.Items {
		_, upstream, err := v.opts.Locate(ctx, repo)
		if err != nil && !origin.Unknown(err) {
			return shown, err
		}
		shown.Items = append(shown.Items, Repository{Name: repo.String(), Upstream: upstream})
	}
	return shown, nil
}

// searchable refuses what would be looked for, word by word, in each of so many names.
func searchable(search string) error {
	if len(search) > longestSearch {
		return origin.Errorf(origin.ErrUnsupported, "a search is longer than %d bytes", longestSearch).WithStatus(http.StatusBadRequest)
	}
	return nil
}

// find gives a page of those names that have all words of search in them. It looks
// through so many and no more; the page is short then.
func find[T any](p origin.Page, name func(T) string, search string, page func(origin.Page) (origin.List[T], error)) (origin.List[T], error) {
	words := strings.Fields(strings.ToLower(search))
	if len(words) == 0 || p.N <= 0 {
		return page(p)
	}
	var found origin.List[T]
	for looked := 0; ; {
		const batch = 1000
		list, err := page(origin.Page{After: p.After, N: batch})
		if err != nil {
			return found, err
		}
		for i, item := range list.Items {
			p.After = name(item)
			if !has(strings.ToLower(p.After), words) {
				continue
			}
			found.Items = append(found.Items, item)
			if len(found.Items) == p.N {
				found.More = list.More || i+1 < len(list.Items)
				return found, nil
			}
		}
		looked += len(list.Items)
		switch {
		case !list.More || len(list.Items) == 0:
			return found, nil
		case looked >= searched:
			found.More, found.Next = true, p.After
			return found, nil
		}
	}
}

func has(name string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(name, w) {
			return false
		}
	}
	return true
}

// Tags lists those of a repository whose names have all words of search in them.
// Errors: origin.ErrNameUnknown, origin.ErrNameInvalid.
func (v *View) Tags(ctx context.Context, repository, search string, p origin.Page) (origin.List[Tag], error) {
	var shown origin.List[Tag]
	if err := v.listing(ctx, "tags"); err != nil {
		return shown, err
	}
	if err := searchable(search); err != nil {
		return shown, err
	}
	repo, _, err := v.find(ctx, repository)
	if err != nil {
		return shown, err
	}
	if !v.opts.Guard.May(ctx, repo, authz.Access{Action: authz.Pull, Operation: "list-tags"}) {
		return shown, unknownRepository(repository)
	}
	p.N = min(p.N, mostTags)
	list, err := guard.List(ctx, v.opts.Guard, guard.Listing[string]{
		Of: "tags of " + repo.String() + " with " + search,
		Page: func(p origin.Page) (origin.List[string], error) {
			return find(p, func(tag string) string { return tag }, search, func(p origin.Page) (origin.List[string], error) { return v.opts.Here.Tags(ctx, repo, p) })
		},
		Name: func(tag string) string { return tag },
		What: func(tag string) (origin.Repo, authz.Access) {
			return repo, authz.Access{Action: authz.Pull, Operation: "get-manifest", Tag: tag}
		},
	}, p)
	if origin.Unknown(err) {
		err = unknownRepository(repository)
	}
	if err != nil {
		return shown, err
	}
	shown.More, shown.Next = list.More, list.Next
	shown.Items, err = v.describe(ctx, repo, list.Items)
	return shown, err
}

// describe says what is known of tags that may be shown. One that is gone by now is left
// out; of one that is damaged, that is said.
func (v *View) describe(ctx context.Context, repo origin.Repo, tags []string) ([]Tag, error) {
	if len(tags) == 0 {
		return nil, nil
	}
	pulled, err := v.opts.Here.Pulled(ctx, repo)
	if err != nil {
		return nil, err
	}
	described := make([]*Tag, len(tags))
	var looking errgroup.Group
	looking.SetLimit(together)
	for i, name := range tags {
		looking.Go(func() error {
			tag, err := v.describeTag(ctx, repo, name, pulled)
			if origin.Unknown(err) {
				return nil
			}
			if tag.Damaged = errors.Is(err, origin.ErrDamaged); tag.Damaged {
				err = nil
			}
			described[i] = &tag
			return err
		})
	}
	if err := looking.Wait(); err != nil {
		return nil, err
	}
	var list []Tag
	for _, tag := range described {
		if tag != nil {
			list = append(list, *tag)
		}
	}
	return list, nil
}

func (v *View) describeTag(ctx context.Context, repo origin.Repo, name string, pulled func(origin.Ref, origin.Manifest, origin.Content) time.Time) (Tag, error) {
	tag := Tag{Name: name, Platforms: []string{}}
	ref, err := origin.ParseTag(name)
	if err != nil {
		return tag, err
	}
	desc, err := v.opts.Here.Resolve(ctx, repo, ref)
	if err != nil {
		return tag, err
	}
	tag.Digest, tag.MediaType = desc.Digest, brief(desc.MediaType)
	pushed, checked, err := v.opts.Here.Tagged(ctx, repo, name)
	if err != nil && !origin.Unknown(err) {
		return tag, err
	}
	tag.PushedAt, tag.CheckedAt = when(pushed), when(checked)
	m, err := v.opts.Here.Manifest(ctx, repo, origin.ByDigest(desc.Digest))
	if origin.Unknown(err) {
		return tag, nil // of a mirrored tag, that may be all that is here
	}
	if err != nil {
		return tag, err
	}
	content, err := origin.ReadManifest(m.MediaType, m.Bytes)
	if err != nil {
		return tag, nil // kept as it is, and nothing to say of what it names
	}
	tag.LastPulledAt = when(pulled(ref, m, content))
	if isArtifact(content) {
		tag.ArtifactType = brief(content.ArtifactType)
	}
	tag.Size, tag.Platforms = v.measure(ctx, repo, content)
	return tag, nil
}

const (
	// mostChildren is how many manifests of an index are looked into for a list.
	mostChildren = 16
	// mostPlatforms is how many platforms of an index a list shows. Debian's has ten.
	mostPlatforms = 100
)

// measure gives the bytes of all that a manifest names, and the platforms that it is for.
func (v *View) measure(ctx context.Context, repo origin.Repo, c origin.Content) (size int64, platforms []string) {
	seen := map[digest.Digest]bool{}
	count := func(c origin.Content) {
		for _, b := range c.Blobs {
			if !seen[b.Digest] {
				size = origin.AddSizes(size, b.Size)
			}
			seen[b.Digest] = true
		}
	}
	count(c)
	platforms = []string{}
	if !c.Index {
		var is struct{ OS, Architecture, Variant string } // and nothing else of what a config may be full of
		if v.readConfig(ctx, v.opts.Here, repo, c, &is) {
			if p := platformOf(&v1.Platform{OS: is.OS, Architecture: is.Architecture, Variant: is.Variant}); p != "" {
				platforms = append(platforms, p)
			}
		}
		return size, platforms
	}
	for i, child := range c.Manifests {
		if p := platformOf(child.Platform); p != "" && len(platforms) < mostPlatforms {
			platforms = append(platforms, p)
		}
		if i >= mostChildren {
			continue
		}
		m, err := v.opts.Here.Manifest(ctx, repo, origin.ByDigest(child.Digest))
		if err != nil {
			continue // it is not here, or says so when it is asked for itself
		}
		if content, err := origin.ReadManifest(m.MediaType, m.Bytes); err == nil {
			count(content)
		}
	}
	return size, platforms
}
