package main

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/ui/view"
)

// extensions are the addresses below /v2/_ext/. What is shown there v decides, and
// view.OpenAPI describes.
func extensions(v *view.View) map[string]serve.Extension {
	type question = serve.Question
	return map[string]serve.Extension{
		"repositories": pageOf("repositories", func(ctx context.Context, q question) (origin.List[view.Repository], error) {
			return v.Repositories(ctx, q.Get("search"), q.Page)
		}, "search"),
		"tags": pageOf("tags", func(ctx context.Context, q question) (origin.List[view.Tag], error) {
			return v.Tags(ctx, q.Get("repository"), q.Get("search"), q.Page)
		}, "repository", "search"),
		"manifests": {Params: []string{"repository", "digest"}, Answer: func(ctx context.Context, q question) (any, string, error) {
			d, err := origin.ParseDigest(q.Get("digest"))
			if err != nil {
				return nil, "", err
			}
			m, err := v.Manifest(ctx, q.Get("repository"), origin.ByDigest(d))
			return m, "", err
		}},
		"referrers": pageOf("referrers", func(ctx context.Context, q question) (origin.List[view.Referrer], error) {
			d, err := origin.ParseDigest(q.Get("digest"))
			if err != nil {
				return origin.List[view.Referrer]{}, err
			}
			return v.Referrers(ctx, q.Get("repository"), d, q.Page)
		}, "repository", "digest"),
		"uploads": pageOf("uploads", func(ctx context.Context, q question) (origin.List[view.Upload], error) {
			return v.Uploads(ctx, q.Page)
		}),
		"fills": pageOf("fills", func(ctx context.Context, q question) (origin.List[view.Fill], error) {
			return v.Fills(ctx, q.Page)
		}),
		"events": pageOf("events", func(ctx context.Context, q question) (origin.List[view.Event], error) {
			return v.Events(ctx, q.Page)
		}),
		"upstreams": {Answer: func(ctx context.Context, _ question) (any, string, error) {
			u, err := v.Upstreams(ctx)
			return u, "", err
		}},
		"explain": {Params: []string{"image"}, Answer: func(ctx context.Context, q question) (any, string, error) {
			x, err := v.Explain(ctx, q.Get("image"))
			return x, "", err
		}},
		"openapi.json": {Answer: func(ctx context.Context, _ question) (any, string, error) {
			return json.RawMessage(view.OpenAPI()), "", v.MayList(ctx)
		}},
	}
}

// pageOf is an address whose answers are pages of a list, below its name.
func pageOf[T any](name string, page func(context.Context, serve.Question) (origin.List[T], error), params ...string) serve.Extension {
	return serve.Extension{Params: params, Paged: true, Answer: func(ctx context.Context, q serve.Question) (any, string, error) {
		list, err := page(ctx, q)
		return map[string][]T{name: append([]T{}, list.Items...)}, list.Next, err
	}}
}

// explain says where an image comes from, and what of it is here. Of one that may not be
// pulled it says what it says of one of which nothing is here.
func explain(
	ctx context.Context, image string, m *mirror.Mirror, g *guard.Guard, a *rights, table *mirror.Table, c *config.Config,
) (origin.Explanation, error) {
	var x origin.Explanation
	repo, ref, err := findImage(image, table, c)
	if err != nil {
		return x, err
	}
	if g.May(ctx, repo, authz.Access{
		Action: authz.Pull, Operation: "get-manifest", Tag: ref.Tag(), Digest: ref.Digest().String(),
	}) {
		x, err = m.Explain(ctx, repo, ref)
	} else {
		x, err = m.ExplainNothing(ctx, repo, ref)
	}
	if x.Upstream != "" && !a.mayPull(guard.Who(ctx), x.Upstream) {
		x.Endpoints = nil
	}
	x.Image = image
	return x, err
}

// findImage reads an image's name as people write it.
func findImage(name string, table *mirror.Table, c *config.Config) (origin.Repo, origin.Ref, error) {
	x, err := parseImage(name)
	if err != nil {
		return origin.Repo{}, origin.Ref{}, err
	}
	if ours(x.host, c) {
		x.host = ""
	}
	repo, err := table.Name("", x.host, x.repo)
	return repo, x.ref, err
}

// ours reports whether host is one that weir itself is known by.
func ours(host string, c *config.Config) bool {
	return host == c.Server.ExternalURL.Host ||
		slices.ContainsFunc(c.Server.Listen, func(a config.Address) bool { return a.Addr == host })
}
