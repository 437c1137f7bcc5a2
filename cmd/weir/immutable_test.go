package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/weir-registry/weir/origin/origintest"
)

// Of a repository's own immutable tags the first push wins, besides those of all
// repositories; the entry that matches it best says which.
func TestImmutableTagsOfRepositories(t *testing.T) {
	r := start(t, "", "  upstreams: []\norigin: {immutable_tags: [stable]}\nrepositories:\n"+
		"  - {match: 'team/**', immutable_tags: ['v.*']}\n  - {match: 'team/free/**'}\n")
	first, second := origintest.Image([]byte(`{"n":1}`)), origintest.Image([]byte(`{"n":2}`))
	for _, c := range []struct {
		repo, tag string
		immutable bool
	}{
		{"team/app", "v1", true},
		{"team/app", "stable", true},
		{"team/app", "xv1", false}, // the whole tag
		{"team/free/app", "v1", false},
		{"team/free/app", "stable", true},
		{"other/app", "v1", false},
	} {
		for _, img := range []origintest.Tree{first, second} {
			r.push(c.repo, img.Blobs[0].Bytes)
		}
		at, moved, deleted := c.repo+":"+c.tag, http.StatusCreated, http.StatusAccepted
		if c.immutable {
			moved, deleted = http.StatusForbidden, http.StatusForbidden
		}
		for range 2 { // the same again
			if a := put(r, c.repo, c.tag, first); a.status != http.StatusCreated {
				t.Errorf("%s: %d %s", at, a.status, a.body)
			}
		}
		a := put(r, c.repo, c.tag, second)
		if a.status != moved || c.immutable && !strings.Contains(string(a.body), "DENIED") {
			t.Errorf("%s moved: %d %s", at, a.status, a.body)
		}
		if a := r.do(http.MethodDelete, "/v2/"+c.repo+"/manifests/"+c.tag, nil); a.status != deleted {
			t.Errorf("%s deleted: %d %s", at, a.status, a.body)
		}
	}
}
