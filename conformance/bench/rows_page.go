package main

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

const (
	// pageTags is how many tags the repository has whose page is asked for, and pageFill
	// how long they may take to come.
	pageTags = 10_000
	pageFill = 2 * time.Minute
	// mostPage is how long a page for people may take, in milliseconds.
	mostPage = 100
)

// pageQuestions are the pages that are asked for, and where in the tags each begins.
func (g *garden) pageQuestions() []question {
	shown := func(tag string) func() error {
		return func() error {
			if !bytes.Contains(g.page, []byte(tag)) {
				return fmt.Errorf("a page without %s: %.300s", tag, g.page)
			}
			return nil
		}
	}
	ask := func(query string) func(ctx context.Context, n int) error {
		return func(ctx context.Context, _ int) error {
			return g.list(ctx, g.c.base+"/ui/repository?name=app"+query)
		}
	}
	far, sought := tagName(pageTags*9/10), tagName(pageTags-1)
	return []question{
		{"first page", 100, ask(""), shown(tagName(0))},
		{"far page", 100, ask("&last=" + far), shown(tagName(pageTags*9/10 + 1))},
		{"search", 100, ask("&search=" + sought), shown(sought)},
	}
}

func pageRows() []row {
	w := row{
		name: "page", work: fmt.Sprintf("/ui/ shows a repository of %d tags to one browser: its first page, one far behind it, and the tags that contain some text; 100 times each", pageTags),
		servers: []string{weir}, run: showPages,
	}
	for _, q := range (&garden{c: &client{}}).pageQuestions() {
		for _, name := range []string{q.name, q.name + ", p99"} {
			w.measures = append(w.measures, measure{name: name, unit: "ms", goals: []goal{atMost(mostPage)}})
		}
	}
	w.measures = append(w.measures, measure{name: cpu, unit: "µs/req"}, measure{name: peak, unit: "MB"})
	return []row{w}
}

func showPages(ctx context.Context, t *trial) (values, error) {
	g, _, err := t.planted(ctx)
	if err != nil {
		return nil, err
	}
	defer g.c.close()
	if err := g.grow(ctx, pageTags, pageFill); err != nil {
		return nil, err
	}
	if g.grown < pageTags {
		return nil, fmt.Errorf("only %d tags came in %v", g.grown, pageFill)
	}
	v, asked := values{}, int64(0)
	spent, err := t.clock(ctx, func(ctx context.Context) error {
		for _, q := range g.pageQuestions() {
			asked += int64(q.times)
			mid, p99, err := often(ctx, q.times, q.ask, q.check)
			if err != nil {
				return fmt.Errorf("%s: %w", q.name, err)
			}
			v[q.name], v[q.name+", p99"] = milliseconds(mid), milliseconds(p99)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	v[cpu], v[peak] = spent.perRequest(asked), spent.memory()
	return v, nil
}
