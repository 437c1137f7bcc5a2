package remote

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"github.com/weir-registry/weir/origin"
)

// Repos implements origin.Catalog: those below the endpoint's prefix. An endpoint that
// lists them in another order than ours, or has no catalog, is read to its end, or has
// none to show.
func (o *Origin) Repos(ctx context.Context, p origin.Page) (origin.List[origin.Repo], error) {
	after := strings.TrimSuffix(o.prefix, "/")
	if p.After != "" {
		after = o.prefix + p.After
	}
	found, more, ordered, err := o.catalog(ctx, after, p.N)
	if err == nil && !ordered && after != "" {
		found, more, _, err = o.catalog(ctx, "", p.N)
	}
	if refused, ok := errors.AsType[*refusal](err); ok && (missing(err) || refused.status == 405) {
		return origin.List[origin.Repo]{Source: o.source()}, nil
	}
	if err != nil {
		return origin.List[origin.Repo]{}, o.failure(ctx, origin.ErrNameUnknown, err)
	}
	return listed(o.Registry, found, origin.Repo.String, p, more), nil
}

// catalog reads repositories from after on until there are n, or, if they do not come in
// byte order, all.
func (o *Origin) catalog(ctx context.Context, after string, n int) (found []origin.Repo, more, ordered bool, err error) {
	u := *o.root
	u.Path += "_catalog"
	q := url.Values{"n": {strconv.Itoa(min(max(1, n), maxAsk))}}
	if after != "" {
		q.Set("last", after)
	}
	u.RawQuery = q.Encode()
	ordered, last := true, after
	more, err = o.pages(ctx, "registry:catalog:*", &u, "application/json", func(_ *answer, b []byte) (bool, error) {
		var page struct {
			Repositories []string `json:"repositories"`
		}
		if err := json.Unmarshal(b, &page); err != nil {
			return false, wrongAnswer("malformed JSON")
		}
		for _, name := range page.Repositories {
			ordered = ordered && last < name
			last = name
			below, ok := strings.CutPrefix(name, o.prefix)
			if repo, err := origin.ParseRepo(below); ok && err == nil {
				found = append(found, repo)
			}
		}
		return !ordered || len(found) < n, nil
	})
	if ordered && errors.Is(err, errLong) {
		more, err = true, nil
	}
	return found, more, ordered, err
}
