package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/ui"
)

// signIn gives the headers of a browser in which somebody has signed in.
func (w *world) signIn(name string) []string {
	w.t.Helper()
	form := url.Values{"username": {name}, "password": {password}}
	a := w.send(w.plain, http.MethodPost, "/ui/login", []byte(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
	var cookies []string
	for _, line := range a.header["Set-Cookie"] {
		c, err := http.ParseSetCookie(line)
		if err != nil {
			w.t.Fatal(err)
		}
		if c.MaxAge >= 0 {
			cookies = append(cookies, c.Name+"="+c.Value)
		}
	}
	if a.status != http.StatusSeeOther || len(cookies) == 0 {
		w.t.Fatalf("%s is not signed in: %d %s", name, a.status, a.body)
	}
	return []string{"Cookie", strings.Join(cookies, "; ")}
}

// TestPagesRights asks every page as nobody and with sessions that may do nothing, read, and
// do all there is to do, about what is there, what they may not see, and what is not there.
// It is the guard that answers, a deletion too; what may not be seen is answered as what is
// not there is.
func TestPagesRights(t *testing.T) {
	t.Parallel()
	const at = `(request.repository == "" || request.repository.startsWith("own/"))`
	w := newWorld(t, []string{"none", "reader", "owner"}, `{allow: ['identity.username == "owner" && `+at+`', 'identity.username == "reader" && request.action in ["list", "pull"] && `+at+`']}`, "")
	img := sameImage()
	restore := func() { pushOwnAndOther(t, w.app.registry, img) }
	restore()
	visitors := []string{"", "none", "reader", "owner"}
	sessions := make([][]string, len(visitors))
	for i, name := range visitors[1:] {
		sessions[i+1] = w.signIn(name)
	}

	type row struct {
		query string // or the form, REPO is the repository
		// there is what each visitor is answered with about what is there and for some of them;
		// 0: it is not asked. hidden is so about what no right is for.
		there, hidden [4]int
	}
	all := func(status int) [4]int { return [4]int{status, status, status, status} }
	listed, denied := [4]int{401, 403, 200, 200}, [4]int{401, 403, 404, 404}
	tag := "name=REPO&tag=v1"
	rows := map[string]row{
		"GET /ui/{$}":        {"", listed, listed},
		"GET /ui/repository": {"name=REPO", listed, denied},
		"GET /ui/image":      {tag, listed, denied},
		"GET /ui/manifest":   {tag, listed, denied},
		// Who may not list may still pull.
		"GET /ui/blob":   {"name=REPO&digest=" + img.Blobs[1].Digest.String(), [4]int{404, 404, 200, 200}, all(404)},
		"GET /ui/delete": {tag, [4]int{401, 403, 403, 200}, denied},
		// As a DELETE on /v2/.
		"POST /ui/delete":  {tag, [4]int{401, 403, 403, 303}, [4]int{401, 403, 403, 403}},
		"GET /ui/activity": {"", listed, listed},
		// To who may see it, it does not end: see TestPagesStream.
		"GET /ui/activity/stream": {"", [4]int{401, 403}, [4]int{401, 403}},
		"GET /ui/why":             {"image=REPO:v1", listed, listed}, // of what is hidden as of what is not there
		"GET /ui/me":              {"repository=REPO", all(200), all(200)},
		"GET /ui/config":          {"", [4]int{401, 403, 403, 200}, [4]int{401, 403, 403, 200}},
		"GET /ui/login":           {"", all(200), all(200)},
		"POST /ui/login":          {"username=owner&password=wrong", all(401), all(401)},
		"GET /ui/login/provider":  {"name=nobody", all(404), all(404)},
		"GET /ui/login/callback":  {"code=1&state=2", all(403), all(403)},
		"GET /ui/static/{file}":   {"", all(200), all(200)},
		// It ends the sessions, and what is asked after it needs none.
		"POST /ui/logout": {"", all(303), all(303)},
	}
	ask := func(route, query, repo string, headers []string) answer {
		method, path, _ := strings.Cut(route, " ")
		path = strings.NewReplacer("{$}", "", "{file}", "page.js").Replace(path)
		query = strings.ReplaceAll(query, "REPO", repo)
		if method == http.MethodPost {
			return w.send(w.plain, method, path, []byte(query), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)...)
		}
		return w.send(w.plain, method, path+"?"+query, nil, headers...)
	}
	// Nobody may see other/app: it is asked for behind the guard.
	owner, v1 := w.visitor("basic", "owner"), origintest.Ref(t, "v1")
	check := func(route, name string) {
		t.Helper()
		want := http.StatusOK
		if route == "POST /ui/delete" && name == "owner" {
			want = http.StatusNotFound
		}
		if a := owner.do("own/app", http.MethodHead, "/v2/own/app/manifests/v1", nil); a.status != want {
			t.Errorf("after %s as %q own/app is answered with %d, want %d", route, name, a.status, want)
		}
		if _, err := w.app.registry.Resolve(t.Context(), origintest.Repo(t, "other/app"), v1); err != nil {
			t.Errorf("after %s as %q: %v", route, name, err)
		}
		if want != http.StatusOK {
			restore()
		}
	}
	for _, route := range ui.Routes() {
		c, ok := rows[route]
		if !ok {
			t.Errorf("nobody asks %s", route)
			continue
		}
		for i, name := range visitors {
			if c.there[i] == 0 {
				continue
			}
			own, other, gone := ask(route, c.query, "own/app", sessions[i]), ask(route, c.query, "other/app", sessions[i]), ask(route, c.query, "other/nil", sessions[i])
			if own.status != c.there[i] || other.status != c.hidden[i] {
				t.Errorf("%s as %q: %d, want %d; of what is hidden %d, want %d\n%s", route, name, own.status, c.there[i], other.status, c.hidden[i], own.body)
			}
			if a, b := other.print(), strings.ReplaceAll(strings.ReplaceAll(gone.print(), "other/nil", "other/app"), "other%2Fnil", "other%2Fapp"); a != b && !strings.Contains(route, "log") {
				t.Errorf("%s as %q tells what is there:\n%s\nand what is not:\n%s", route, name, a, b)
			}
			check(route, name)
		}
	}
	if n := len(ui.Routes()); len(rows) != n {
		t.Errorf("%d rows for %d routes", len(rows), n)
	}
}
