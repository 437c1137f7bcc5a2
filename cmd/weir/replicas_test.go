package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// put pushes an image's manifest, of which the blobs are there.
func put(r *running, repo, tag string, img origintest.Tree) answer {
	r.t.Helper()
	return r.do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, bytes.NewReader(img.Manifest.Bytes), "Content-Type", img.Manifest.MediaType)
}

// TestReplicasAreOne: what is pushed to one replica, moved or deleted, shows at the other;
// an upload begun at one is gone on with at the other.
func TestReplicasAreOne(t *testing.T) {
	w := newTwins(t, remotetest.New(t), time.Minute, "")
	one, other := w.each[0], w.each[1]
	first, second := origintest.Image([]byte(`{"n":1}`), []byte("layer")), origintest.Image([]byte(`{"n":2}`))
	for _, img := range []origintest.Tree{first, second} {
		for _, b := range img.Blobs {
			one.push("team/app", b.Bytes)
		}
	}
	shows := func(what, path string, so func(a answer) bool) {
		t.Helper()
		eventually(t, what, func() bool { return so(other.get(path)) })
	}
	is := func(d digest.Digest) func(a answer) bool {
		return func(a answer) bool { return a.header.Get("Docker-Content-Digest") == d.String() }
	}
	gone := func(a answer) bool { return a.status == http.StatusNotFound }
	for range 3 { // so that the other one has it in memory each time
		for _, img := range []origintest.Tree{first, second} {
			if a := put(one, "team/app", "x", img); a.status != http.StatusCreated {
				t.Fatalf("%d %s", a.status, a.body)
			}
			shows("the tag", "/v2/team/app/manifests/x", is(img.Digest()))
			shows("the list", "/v2/team/app/tags/list", func(a answer) bool { return strings.Contains(string(a.body), `"x"`) })
		}
		for _, path := range []string{"manifests/x", "manifests/" + first.Digest().String(), "blobs/" + first.Blobs[1].Digest.String()} {
			shows(path, "/v2/team/app/"+path, func(a answer) bool { return a.status == http.StatusOK })
			if a := one.do(http.MethodDelete, "/v2/team/app/"+path, nil); a.status != http.StatusAccepted {
				t.Errorf("DELETE %s: %d %s", path, a.status, a.body)
			}
			shows(path, "/v2/team/app/"+path, gone)
		}
		shows("the list", "/v2/team/app/tags/list", func(a answer) bool { return !strings.Contains(string(a.body), `"x"`) })
		one.push("team/app", first.Blobs[1].Bytes)
	}

	content := origintest.Bytes(3, 300_000)
	a := one.do(http.MethodPost, "/v2/team/app/blobs/uploads/", nil)
	for i, part := range [][]byte{content[:100_000], content[100_000:200_000], content[200_000:]} {
		a = w.each[(i+1)%2].do(http.MethodPatch, a.header.Get("Location"), bytes.NewReader(part))
		if a.status != http.StatusAccepted {
			t.Fatalf("PATCH %d: %d %s", i, a.status, a.body)
		}
	}
	d := digest.FromBytes(content)
	a = one.do(http.MethodPut, a.header.Get("Location")+"?digest="+d.String(), nil)
	if a.status != http.StatusCreated {
		t.Fatalf("PUT: %d %s", a.status, a.body)
	}
	if a := other.get("/v2/team/app/blobs/" + d.String()); !bytes.Equal(a.body, content) {
		t.Errorf("%d, %d bytes", a.status, len(a.body))
	}
}

// TestTokensOfAnotherReplica: the key of tokens is the store's.
func TestTokensOfAnotherReplica(t *testing.T) {
	w := newTwins(t, remotetest.New(t), time.Minute, fmt.Sprintf("authz: {basic: {users: [{name: ann, hash: %q}]}, policy: {allow: ['identity.authenticated']}}\n", basic.NewHash("secret").Text()))
	login := "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:secret"))
	for i, r := range w.each {
		a := r.get("/token?service=weir", "Authorization", login)
		var granted struct{ Token string }
		if err := json.Unmarshal(a.body, &granted); err != nil {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if a := w.each[1-i].get("/v2/", "Authorization", "Bearer "+granted.Token); a.status != http.StatusOK {
			t.Errorf("a token of the other replica: %d %s", a.status, a.body)
		}
	}
}
