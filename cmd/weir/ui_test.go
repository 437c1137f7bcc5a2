package main

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// A browser that asks for the root is led to the pages, and a client is not; what nobody may
// pull is on none of them, and its address is that of what does not exist.
func TestPages(t *testing.T) {
	data := t.TempDir()
	text := "log: {format: json}\nserver: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\nstore: {blobs: {filesystem: {root: '" + data + "'}}}\n" +
		"mirror: {well_known: false, upstreams: []}\nauthz: {policy: {default: allow, deny: ['request.repository.startsWith(\"secret/\") && request.action == \"pull\"']}}\n"
	r := startText(t, data, text)
	browser := []string{"Accept", "text/html,*/*"}
	for _, c := range []struct {
		path   string
		header []string
		status int
		of     string // where it is
	}{
		{"/", browser, http.StatusSeeOther, "/"},
		{"/ui", browser, http.StatusSeeOther, "/ui/"},
		{"/", nil, http.StatusNotFound, "/"},
		{"/v2/", browser, http.StatusOK, "/v2/"},
		{"/ui/nothing", browser, http.StatusNotFound, "/ui/nothing"},
	} {
		a := r.do(http.MethodGet, c.path, nil, c.header...)
		if page := a.header.Get("Content-Security-Policy") != ""; a.status != c.status || page != strings.HasPrefix(c.of, "/ui") {
			t.Errorf("%s: %d %v", c.path, a.status, a.header)
		}
		if to := a.header.Get("Location"); c.status == http.StatusSeeOther && to != "/ui/" {
			t.Errorf("%s leads to %q", c.path, to)
		}
	}
	for _, repo := range []string{"open/app", "secret/app"} {
		if a := r.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+digestOfX, strings.NewReader("x")); a.status != http.StatusCreated {
			t.Fatalf("%s: %d %s", repo, a.status, a.body)
		}
		begun := r.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil)
		if a := r.do(http.MethodPatch, begun.header.Get("Location"), strings.NewReader("some")); a.status != http.StatusAccepted {
			t.Fatalf("%s: %d %s", repo, a.status, a.body)
		}
	}
	for _, path := range []string{"/ui/", "/ui/activity", "/ui/?search=app"} {
		if text := string(r.get(path).body); strings.Contains(text, "secret") || !strings.Contains(text, "open/app") {
			t.Errorf("%s shows %s", path, text)
		}
	}
	for _, path := range []string{"/ui/repository?name=%s", "/ui/image?tag=v1&name=%s", "/ui/blob?digest=" + digestOfX + "&name=%s", "/ui/manifest?digest=" + digestOfX + "&name=%s"} {
		hidden, absent := r.get(fmt.Sprintf(path, "secret/app")), r.get(fmt.Sprintf(path, "secret/none"))
		if hidden.status != http.StatusNotFound || strings.ReplaceAll(string(hidden.body), "secret/app", "secret/none") != string(absent.body) {
			t.Errorf("%s: %d %s\nabsent: %s", path, hidden.status, hidden.body, absent.body)
		}
	}
	if a := r.get("/ui/blob?name=open/app&digest=" + digestOfX); a.status != http.StatusOK || string(a.body) != "x" || a.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%d %s", a.status, a.body)
	}
	r.end()

	none := startText(t, data, text+"ui: {enabled: false}\n")
	for _, path := range []string{"/", "/ui", "/ui/"} {
		if a := none.do(http.MethodGet, path, nil, browser...); a.status != http.StatusNotFound || a.code() == "" {
			t.Errorf("without pages %s: %d %s", path, a.status, a.body)
		}
	}
}

const digestOfX = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"

// Whoever looks on how fills get on does not keep weir from ending, nor others waiting.
func TestPagesStream(t *testing.T) {
	u := remotetest.New(t)
	data := t.TempDir()
	r := startText(t, data, "log: {format: json}\nserver: {listen: '127.0.0.1:0', max_concurrent_requests: 1, drain: 20s}\nadmin: {listen: '127.0.0.1:0'}\n"+
		"store: {blobs: {filesystem: {root: '"+data+"'}}}\nmirror:\n  well_known: false\n"+hub(u, ""))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/ui/activity/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || lines.Text() != "event: fills" || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%q %v", lines.Text(), resp.Header)
	}
	if a := r.get("/v2/"); a.status != http.StatusOK {
		t.Errorf("meanwhile %d %s", a.status, a.body)
	}
	r.end() // fails if requests had to be cut
	if strings.Contains(r.log.String(), "requests were cut") {
		t.Error("the stream did not end by itself")
	}
}

// A deletion is offered where there are any.
func TestPagesOfferDeletion(t *testing.T) {
	for text, want := range map[string]struct {
		offered bool
		ask, do int
	}{
		"":                          {true, http.StatusOK, http.StatusSeeOther},
		"origin: {delete: false}\n": {false, http.StatusForbidden, http.StatusMethodNotAllowed},
	} {
		r := start(t, "", text)
		r.pushImage("team/app", "v1", v1.Image{}, []byte("layer"))
		image := r.get("/ui/image?name=team/app&tag=v1")
		if offered := strings.Contains(string(image.body), "Delete…"); image.status != http.StatusOK || offered != want.offered {
			t.Errorf("with %q: %d, offered %v", text, image.status, offered)
		}
		if a := r.get("/ui/delete?name=team/app&tag=v1"); a.status != want.ask {
			t.Errorf("with %q it is asked with %d", text, a.status)
		}
		if a := r.do(http.MethodPost, "/ui/delete", strings.NewReader("name=team/app&tag=v1"), "Content-Type", "application/x-www-form-urlencoded"); a.status != want.do {
			t.Errorf("with %q it is answered with %d", text, a.status)
		}
	}
}
