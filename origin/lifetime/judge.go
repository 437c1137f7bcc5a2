package lifetime

import (
	"cmp"
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

// judge reads what a repository holds, and asks its rules. Its error says why the
// repository is left alone.
func (x *retention) judge(ctx context.Context, s *shelf) error {
	tags, err := x.read(ctx, s)
	if err != nil {
		return err
	}
	images, err := x.images(ctx, s, tags)
	if err != nil {
		return err
	}
	var errs []error
	for i, tag := range s.tags {
		t := RetainedTag{Repository: s.repo.String(), Tag: tag, Digest: tags[tag].Digest}
		rule, err := x.ask(ctx, s, images[i])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s of tag %s: %w", rule, tag, err))
		}
		if rule == "" && x.retirer.Immutable(s.repo, tag) {
			rule = ruleImmutable
		}
		if rule != "" {
			s.tagged[t.Digest] = true
			x.report.keep(t, rule)
			continue
		}
		s.direct[t.Digest] = true
		s.doomed = append(s.doomed, doomed{t, tags[tag]})
	}
	if len(errs) == 0 && many(len(s.doomed), len(s.tags)) && !x.force {
		errs = append(errs, fmt.Errorf("%d of %d: %w", len(s.doomed), len(s.tags), ErrMany))
	}
	if len(errs) > 0 {
		const enough = 10
		for _, t := range s.doomed {
			x.report.keep(t.RetainedTag, ruleAlone)
		}
		return errors.Join(errs[:min(len(errs), enough)]...)
	}
	for d, m := range s.manifests {
		m.Annotations, m.Blobs, m.Tags = nil, nil, nil // they have been asked for, and take room
		s.manifests[d] = m
	}
	return nil
}

// ask gives the rule that keeps an image; "": none does. One that fails keeps it.
func (x *retention) ask(ctx context.Context, s *shelf, image map[string]any) (rule string, err error) {
	for i, r := range s.keep {
		rule := fmt.Sprintf("%s[%d]", s.list, i)
		kept, err := r.keeps(ctx, image, x.now)
		if err != nil || kept {
			return rule, err
		}
	}
	return "", nil
}

// read reads the tags and manifests of a repository, and wants that nothing is missing
// from the listing that is known from elsewhere.
func (x *retention) read(ctx context.Context, s *shelf) (map[string]origin.Tagged, error) {
	var (
		mu      sync.Mutex
		readers errgroup.Group
	)
	readers.SetLimit(atOnce)
	found := map[digest.Digest]origin.Described{}
	for d := range s.listed {
		readers.Go(func() error {
			m, err := x.retirer.Described(ctx, s.repo, d)
			if origin.Unknown(err) {
				return nil // deleted since
			}
			mu.Lock()
			defer mu.Unlock()
			found[d] = m
			return err
		})
	}
	tags := map[string]origin.Tagged{}
	for _, tag := range s.tags {
		readers.Go(func() error {
			t, err := x.retirer.Tagged(ctx, s.repo, tag)
			if origin.Unknown(err) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			tags[tag] = t
			return err
		})
	}
	if err := readers.Wait(); err != nil {
		return nil, err
	}
	for d, m := range found {
		s.know(d, m)
	}
	s.tags = slices.DeleteFunc(s.tags, func(tag string) bool { _, ok := tags[tag]; return !ok })
	return tags, x.whole(ctx, s, tags)
}

// whole wants that nothing is missing from the listing of a repository: tags that its
// manifests were pushed with, and manifests that tags, notes, referrers and indexes name.
func (x *retention) whole(ctx context.Context, s *shelf, tags map[string]origin.Tagged) error {
	for tag := range s.notes {
		if err := x.tagListed(ctx, s, tags, tag); err != nil {
			return err
		}
	}
	need := map[digest.Digest]bool{} // whether it is damage that it is not there
	for d := range s.spoken {
		need[d] = false
	}
	for _, m := range s.manifests {
		for _, tag := range m.Tags {
			if err := x.tagListed(ctx, s, tags, tag); err != nil {
				return err
			}
		}
		for _, child := range m.Manifests {
			need[child] = false
		}
	}
	for _, t := range tags {
		need[t.Digest] = true
	}
	for d, must := range need {
		if _, ok := s.manifests[d]; ok {
			continue
		}
		err := x.learn(ctx, s, d)
		if origin.Unknown(err) && !must {
			continue
		}
		if err != nil {
			return err
		}
		if !s.listed[d] && s.manifests[d].Modified.Before(x.now) {
			return fmt.Errorf("manifest %s is missing from the listing", d)
		}
	}
	return nil
}

// tagListed wants that a tag is listed, unless it is gone or new.
func (x *retention) tagListed(ctx context.Context, s *shelf, tags map[string]origin.Tagged, tag string) error {
	if _, ok := tags[tag]; ok {
		return nil
	}
	t, err := x.retirer.Tagged(ctx, s.repo, tag)
	switch {
	case origin.Unknown(err):
		return nil
	case err != nil:
		return err
	case t.Modified.Before(x.now):
		return fmt.Errorf("tag %s is missing from the listing", tag)
	}
	s.tagged[t.Digest] = true
	return nil
}

// learn reads a manifest. Errors: ErrManifestUnknown.
func (x *retention) learn(ctx context.Context, s *shelf, d digest.Digest) error {
	m, err := x.retirer.Described(ctx, s.repo, d)
	if err == nil {
		s.know(d, m)
	}
	return err
}

func (s *shelf) know(d digest.Digest, m origin.Described) {
	s.manifests[d] = m
	if m.Suspect {
		s.suspect[d] = true
	}
}

// images are what rules see of the tags, in their order.
func (x *retention) images(ctx context.Context, s *shelf, tags map[string]origin.Tagged) ([]map[string]any, error) {
	last, err := x.opts.Pulls.Last(ctx, s.repo)
	if err != nil {
		return nil, err
	}
	var pushed, pulled []stamp
	images := make([]map[string]any, len(s.tags))
	for i, tag := range s.tags {
		t := tags[tag]
		m := s.manifests[t.Digest]
		images[i] = map[string]any{
			"repository": s.repo.String(), "tag": tag, "digest": t.Digest.String(), "pushed_at": latest(t.PushedAt, t.Modified),
			"size": m.Size, "media_type": m.MediaType, "annotations": m.Annotations, "referrers": s.referrers(t.Digest),
		}
		pushed = append(pushed, stamp{i, t.PushedAt})
		at := latest(last[tag], last[t.Digest.String()])
		if !at.IsZero() {
			images[i]["last_pulled_at"] = at
			pulled = append(pulled, stamp{i, at})
		}
	}
	rank(images, pushed, pushedRank)
	rank(images, pulled, pulledRank)
	return images, nil
}

// latest gives the later one of two times: of two clocks that differ the one that keeps more.
func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// referrers gives the artifact types of those that have a manifest as their subject.
func (s *shelf) referrers(d digest.Digest) []string {
	kinds := []string{}
	for _, ref := range s.refs[d] {
		if m, ok := s.manifests[ref]; ok {
			kinds = append(kinds, m.ArtifactType)
		}
	}
	return kinds
}

// stamp is when something happened to the image at an index.
type stamp struct {
	image int
	at    time.Time
}

// rank says of images how many come before them, the latest first.
func rank(images []map[string]any, list []stamp, field string) {
	slices.SortStableFunc(list, func(a, b stamp) int { return -cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	for n, t := range list {
		images[t.image][field] = int64(n)
	}
}
