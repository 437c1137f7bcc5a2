package remote_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

func TestTags(t *testing.T) {
	u := remotetest.New(t)
	u.PageSize(2)
	for _, tag := range []string{"a", "b", "c", "d", "e"} {
		u.AddImage("x", tag)
	}
	r, x := open(t, u.URL()), repo(t, "x")
	if _, err := r.Tags(t.Context(), x, origin.Page{}); err != nil { // not counted below: the ping
		t.Fatal(err)
	}
	tests := []struct {
		page  origin.Page
		want  string
		more  bool
		pages int
	}{
		{origin.Page{N: 2}, "a b", true, 1},
		{origin.Page{N: 3}, "a b c", true, 2},
		{origin.Page{N: 5}, "a b c d e", false, 3},
		{origin.Page{N: 100}, "a b c d e", false, 3},
		{origin.Page{N: 2, After: "c"}, "d e", false, 1},
		{origin.Page{N: 2, After: "bb"}, "c d", true, 1},
		{origin.Page{N: 2, After: "e"}, "", false, 1},
		{origin.Page{N: 0}, "", false, 1},
	}
	for _, test := range tests {
		u.Take()
		l, err := r.Tags(t.Context(), x, test.page)
		if got := strings.Join(l.Items, " "); err != nil || got != test.want || l.More != test.more || l.Source.Upstream != u.Host() {
			t.Errorf("%+v: %q, more %t, %v", test.page, got, l.More, err)
		}
		if got := u.Take(); len(got) != test.pages {
			t.Errorf("%+v: %q", test.page, got)
		}
	}
}

func TestTagsOfOtherUpstreams(t *testing.T) {
	// Each is a list of pages; page i leads to page i+1.
	tests := map[string]struct {
		pages []string
		link  string // of all but the last; "" = to the next page
		page  origin.Page
		want  string
		more  bool
		bad   bool
	}{
		"in no order":        {pages: []string{`"c","a"`, `"d","b"`}, page: origin.Page{N: 3}, want: "a b c", more: true},
		"that begins afresh": {pages: []string{`"a","b"`, `"c","d"`}, page: origin.Page{N: 1, After: "b"}, want: "c", more: true},
		"with one twice":     {pages: []string{`"a","b"`, `"b","c"`}, page: origin.Page{N: 9}, want: "a b c"},
		"with invalid ones":  {pages: []string{`"a","../b","","c d","e"`}, page: origin.Page{N: 9}, want: "a e"},
		"that says null":     {pages: []string{""}, page: origin.Page{N: 9}},
		"malformed":          {pages: []string{`"a`}, page: origin.Page{N: 9}, bad: true},
		"that leads elsewhere": {
			pages: []string{`"a"`, `"b"`}, link: "http://127.0.0.1:1/v2/x/tags/list?page=1",
			page: origin.Page{N: 9}, want: "a", more: true,
		},
		"that leads to another repository": {
			pages: []string{`"a"`, `"b"`}, link: "/v2/y/tags/list?page=1",
			page: origin.Page{N: 9}, want: "a", more: true,
		},
		"that leads in circles": {
			pages: []string{`"a"`, `"b"`}, link: "?n=9",
			page: origin.Page{N: 9}, want: "a", more: true,
		},
		"that leads with credentials": {
			pages: []string{`"a"`, `"b"`}, link: "http://u:p@HOST/v2/x/tags/list?page=1",
			page: origin.Page{N: 9}, want: "a", more: true,
		},
		"that leads by its own name": {
			pages: []string{`"a"`, `"b"`}, link: "http://HOST/v2/x/tags/list?page=1",
			page: origin.Page{N: 9}, want: "a b",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			u.Fault("/v2/x/tags/list", remotetest.Hook(func(w http.ResponseWriter, r *http.Request) bool {
				var i int
				_, _ = fmt.Sscan(r.URL.Query().Get("page"), &i)
				if link := strings.ReplaceAll(test.link, "HOST", u.Host()); i+1 < len(test.pages) {
					if link == "" {
						link = fmt.Sprintf("/v2/x/tags/list?page=%d", i+1)
					}
					w.Header().Set("Link", "<"+link+`>; rel="next"`)
				}
				_, _ = io.WriteString(w, `{"name":"x","tags":[`+test.pages[i]+`]}`)
				return true
			}))
			l, err := open(t, u.URL()).Tags(t.Context(), repo(t, "x"), test.page)
			if test.bad {
				if !upstreamError(t, err).Outage() {
					t.Error(err)
				}
				return
			}
			if got := strings.Join(l.Items, " "); err != nil || got != test.want || l.More != test.more {
				t.Errorf("%q, more %t, %v", got, l.More, err)
			}
		})
	}
}

func TestEndlessListing(t *testing.T) {
	u := remotetest.New(t)
	big := `{"tags":["a"]}` + strings.Repeat(" ", 8<<20)
	undo := u.Fault("/tags/list", body("application/json", big))
	r, x := open(t, u.URL()), repo(t, "x")
	if _, err := r.Tags(t.Context(), x, origin.Page{N: 1}); !upstreamError(t, err).Outage() {
		t.Error(err)
	}
	undo()
	n := 0
	u.Fault("/tags/list", remotetest.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		n++
		w.Header().Set("Link", fmt.Sprintf(`<?page=%d>; rel=next`, n))
		_, _ = io.WriteString(w, `{"tags":["z","a"]}`)
		return true
	}))
	if _, err := r.Tags(t.Context(), x, origin.Page{N: 1}); !upstreamError(t, err).Outage() {
		t.Error(err)
	}
	if n != 1000 {
		t.Errorf("%d pages", n)
	}
}

func TestReferrers(t *testing.T) {
	for _, api := range []string{"api", "api that ignores the filter", "tag"} {
		t.Run(api, func(t *testing.T) {
			u := remotetest.New(t)
			u.PageSize(2)
			img := u.AddImage("x", "1")
			var all []string
			var descriptors []v1.Descriptor
			for _, kind := range []string{"a", "b", "c", "d", "e"} {
				d := u.AddReferrer("x", "application/"+kind, img.Descriptor)
				all = append(all, d.Digest.String())
				descriptors = append(descriptors, d)
			}
			second := []string{all[1]}
			slices.Sort(all)
			switch api {
			case "tag":
				u.NoReferrersAPI()
				u.AddIndex("x", strings.Replace(img.Digest.String(), ":", "-", 1), descriptors...)
			case "api that ignores the filter":
				u.Fault("/referrers/", func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						q := r.URL.Query()
						q.Del("artifactType")
						r.URL.RawQuery = q.Encode()
						next.ServeHTTP(w, r)
					})
				})
			}
			r, x := open(t, u.URL()), repo(t, "x")
			for _, test := range []struct {
				kind string
				page origin.Page
				want []string
				more bool
			}{
				{"", origin.Page{N: 9}, all, false},
				{"", origin.Page{N: 1}, all[:1], true},
				{"", origin.Page{N: 3, After: all[0]}, all[1:4], true},
				{"", origin.Page{N: 4, After: all[0]}, all[1:], false},
				{"application/b", origin.Page{N: 9}, second, false},
				{"application/none", origin.Page{N: 9}, nil, false},
			} {
				l, err := r.Referrers(t.Context(), x, img.Digest, test.kind, test.page)
				var got []string
				for _, d := range l.Items {
					got = append(got, d.Digest.String())
				}
				if err != nil || !slices.Equal(got, test.want) || l.More != test.more {
					t.Errorf("%q, %+v: %q, more %t, %v", test.kind, test.page, got, l.More, err)
				}
			}
			l, err := r.Referrers(t.Context(), x, digest.FromString("other"), "", origin.Page{N: 9})
			if err != nil || len(l.Items) != 0 {
				t.Errorf("of nothing: %+v, %v", l, err)
			}
			if l, err := r.Referrers(t.Context(), repo(t, "none"), img.Digest, "", origin.Page{N: 9}); err != nil || len(l.Items) != 0 {
				t.Errorf("of an unknown repository: %+v, %v", l, err)
			}
		})
	}
}

// A page of nothing but empty descriptors does not become 70 times its size in memory,
// and one that says what is not so is no list.
func TestReferrersThatAreNone(t *testing.T) {
	u := remotetest.New(t)
	r, x, d := open(t, u.URL()), repo(t, "x"), digest.FromString("subject")
	ask := func() error {
		_, err := r.Referrers(t.Context(), x, d, "", origin.Page{N: 9})
		return err
	}
	for name, text := range map[string]string{
		"bomb":      `{"manifests":[` + strings.Repeat("{},", 2<<20) + `{}]}`,
		"nested":    `{"manifests":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
		"malformed": `{"manifests":[`,
		"no object": `[]`,
	} {
		undo := u.Fault("/referrers/", body("application/vnd.oci.image.index.v1+json", text))
		before := allocated()
		err := ask()
		if grown := allocated() - before; grown > 64<<20 {
			t.Errorf("%s: %d MiB are allocated", name, grown>>20)
		}
		if !upstreamError(t, err).Outage() {
			t.Errorf("%s: %v", name, err)
		}
		undo()
	}
}

// allocated is how many bytes were allocated until now.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestReferrersRequests(t *testing.T) {
	u := remotetest.New(t)
	u.NoReferrersAPI()
	d := u.AddImage("x", "1").Digest
	if _, err := open(t, u.URL()).Referrers(t.Context(), repo(t, "x"), d, "application/a", origin.Page{N: 1}); err != nil {
		t.Error(err)
	}
	equal(t, u.Requests(), []string{
		"GET /v2/ 200",
		"GET /v2/x/referrers/" + d.String() + "?artifactType=application%2Fa 404",
		"GET /v2/x/manifests/sha256-" + d.Encoded() + " 404",
	})
}
