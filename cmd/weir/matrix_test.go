package main

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
)

// The rights of the matrix: who is called like an action may do it, below own alone.
// Who is called nothing may nothing.
func rightNames() []string {
	names := []string{"nothing"}
	for _, a := range authz.Actions() {
		names = append(names, string(a))
	}
	return names
}

// expected is what the matrix promises: of what is declared, and nothing else, what each
// request is answered with.
func expected(a ask, method, right string, at spot) []int {
	denied := http.StatusForbidden
	if method == "none" {
		denied = http.StatusUnauthorized
	}
	switch {
	case a.route == tokenPath && a.method == http.MethodPost: // it is no form
		return []int{http.StatusBadRequest}
	case a.route == tokenPath && method == "bearer": // a token buys no other
		return []int{http.StatusUnauthorized}
	case a.route == tokenPath: // one for what may be done, if that is nothing
		return []int{http.StatusOK}
	case a.route == "base" && method == "none": // people can log in here, so they are asked to
		return []int{denied}
	case a.needs != "" && right != string(a.needs):
		return []int{denied}
	case !a.free && !at.granted():
		return []int{denied}
	case a.free:
		return a.answers[own]
	case a.answers[at] == nil:
		return []int{http.StatusNotFound}
	default:
		return a.answers[at]
	}
}

// TestMatrix asks every route by every method, as everybody who may be somebody with
// every right, about every kind of repository: at least 3,000 cells, over TLS and the
// whole handler (trust.md, S-3). Beyond the status: what is denied is denied in the same
// words whether it is there or not, and no upstream is asked about it.
func TestMatrix(t *testing.T) {
	var cells atomic.Int64
	t.Run("rights", func(t *testing.T) {
		for _, right := range rightNames() {
			t.Run(right, func(t *testing.T) {
				t.Parallel()
				cells.Add(testRight(t, right))
			})
		}
	})
	if n := cells.Load(); n < 3000 && !t.Failed() {
		t.Errorf("%d cells", n)
	} else {
		t.Logf("%d cells", n)
	}
}

// pushOwnAndOther pushes an image to the repository that rights are about, and to another one.
func pushOwnAndOther(t *testing.T, reg origin.Registry, img origintest.Tree) {
	t.Helper()
	for _, repo := range []string{"own/app", "other/app"} {
		for _, b := range img.Blobs {
			origintest.PushBlob(t, reg, repo, b.Bytes)
		}
		origintest.PushManifest(t, reg, repo, img.Manifest, "v1")
	}
}

// testRight runs the cells of one right; nobody in particular has it too.
func testRight(t *testing.T, right string) (cells int64) {
	const below = `(request.repository == "" || request.repository.startsWith("own/") || request.repository.startsWith("docker.io/own/"))`
	w := newWorld(t, []string{right}, fmt.Sprintf(`{allow: ['identity.username == request.action && %s', '!identity.authenticated && request.action == "%s" && %s']}`, below, right, below), "")
	img := sameImage()
	restore := func() { pushOwnAndOther(t, w.app.registry, img) }
	restore()
	for _, repo := range []string{"own/app", "other/app"} {
		for _, b := range img.Blobs {
			w.hub.AddBlob(repo, b.Bytes)
		}
		w.hub.AddManifest(repo, img.Manifest.MediaType, img.Manifest.Bytes, "v1")
	}
	names := map[spot]string{
		own: "own/app", other: "other/app", gone: "other/nil", mirrored: "docker.io/own/app", barred: "docker.io/other/app",
	}
	n := 0
	for _, method := range []string{"none", "basic", "bearer", "oidc", "mtls"} {
		v := w.visitor(method, right)
		for _, a := range asks() {
			answers := map[spot]answer{}
			for _, at := range spots() {
				n++
				repo := names[at]
				if at == missing {
					repo = fmt.Sprintf("own/none%05d", n) // what is pushed to it makes it one that is there
				}
				want := expected(a, method, right, at)
				session := strings.Repeat("0", 64)
				if a.session && at.granted() && at != mirrored && right == string(authz.Push) {
					session = v.session(repo)
				}
				got := v.do(repo, a.method, a.path(repo, session), a.body, a.header...)
				answers[at] = got
				if !slices.Contains(want, got.status) || got.err != nil {
					t.Errorf("%s as %s by %s: %s %s: %d %s, want %v", a.route, right, method, a.method, a.path(repo, session), got.status, got.body, want)
				}
				if asked := got.header.Get("Www-Authenticate") != ""; asked != (got.status == http.StatusUnauthorized) {
					t.Errorf("%s as %s by %s: %d with the challenge %q", a.route, right, method, got.status, got.header.Get("Www-Authenticate"))
				}
				if got.status < 300 && (a.needs == authz.Push || a.needs == authz.Delete) {
					restore()
				}
				cells++
			}
			there, not := answers[other].print(), strings.ReplaceAll(answers[gone].print(), "other/nil", "other/app")
			if !a.free && there != not {
				t.Errorf("%s as %s by %s: it tells what is there:\n%s\nand what is not:\n%s", a.route, right, method, there, not)
			}
		}
	}
	for _, request := range w.hub.Requests() {
		if strings.Contains(request, "/other/") {
			t.Errorf("the upstream was asked %s", request)
		}
	}
	if list := regexp.MustCompile(`other`).FindAllString(string(w.visitor("basic", right).do("", http.MethodGet, "/v2/_catalog", nil).body), -1); list != nil {
		t.Errorf("the catalog shows what may not be pulled")
	}
	return cells
}
