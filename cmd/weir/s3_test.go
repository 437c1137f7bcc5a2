package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// bucket is the configuration of a bucket of a server, and more keys of it.
func bucket(server *s3test.Server, name, more string) string {
	return fmt.Sprintf("{s3: {bucket: %s, endpoint: '%s', path_style: true, prefix: weir, access_key_id: %s, secret_access_key: %s%s}}",
		name, server.URL, s3test.AccessKey, s3test.SecretKey, more)
}

// startOn runs weir with that configuration below store, and below the upstreams key.
func startOn(t testing.TB, store, mirror string) *running {
	t.Helper()
	return startText(t, "", "log: {format: json}\nserver: {listen: '127.0.0.1:0', drain: 20s}\nadmin: {listen: '127.0.0.1:0'}\nstore: "+store+"\nmirror:\n  well_known: false\n"+mirror)
}

// pushTree pushes an image as clients do: each blob in a chunk and a rest.
func (r *running) pushTree(repo, tag string, tree origintest.Tree) {
	r.t.Helper()
	for _, b := range tree.Blobs {
		a := r.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil)
		if a.status != http.StatusAccepted {
			r.t.Fatalf("begin of an upload: %d %s", a.status, a.body)
		}
		half := len(b.Bytes) / 2
		a = r.do(http.MethodPatch, a.header.Get("Location"), bytes.NewReader(b.Bytes[:half]))
		if a.status != http.StatusAccepted {
			r.t.Fatalf("a chunk: %d %s", a.status, a.body)
		}
		a = r.do(http.MethodPut, a.header.Get("Location")+"?digest="+b.Digest.String(), bytes.NewReader(b.Bytes[half:]))
		if a.status != http.StatusCreated {
			r.t.Fatalf("end of an upload: %d %s", a.status, a.body)
		}
	}
	a := r.do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, bytes.NewReader(tree.Manifest.Bytes), "Content-Type", tree.Manifest.MediaType)
	if a.status != http.StatusCreated {
		r.t.Fatalf("manifest: %d %s", a.status, a.body)
	}
}

// TestStores runs the binary's work on each combination of places: what was pushed is
// there after a restart, on another weir over the same places too, and what was mirrored
// comes once.
func TestStores(t *testing.T) {
	server := s3test.Start(t)
	for _, c := range []struct{ blobs, metadata bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
		name := func(s3 bool) string {
			if s3 {
				return "a bucket"
			}
			return "a disk"
		}
		t.Run(fmt.Sprintf("blobs on %s, metadata on %s", name(c.blobs), name(c.metadata)), func(t *testing.T) {
			at := func(s3 bool) string {
				if s3 {
					return bucket(server, server.Bucket(t), ", spool: '"+t.TempDir()+"'")
				}
				return "{filesystem: {root: '" + t.TempDir() + "'}}"
			}
			store := "{blobs: " + at(c.blobs) + ", metadata: " + at(c.metadata) + "}"
			upstream := remotetest.New(t)
			layer := origintest.Bytes(7, 3<<20)
			image := upstream.AddImage("library/app", "1", layer)

			tree := origintest.Image(origintest.Bytes(1, 500), origintest.Bytes(2, 100_000), origintest.Bytes(3, 7<<20))
			r := startOn(t, store, hub(upstream, ""))
			r.pushTree("team/app", "v1", tree)
			pulled := func() {
				t.Helper()
				if a := r.get("/v2/team/app/manifests/v1"); a.status != 200 || !bytes.Equal(a.body, tree.Manifest.Bytes) {
					t.Errorf("v1 is %d %s, %v", a.status, a.body, a.err)
				}
				for _, b := range tree.Blobs {
					a := r.get("/v2/team/app/blobs/" + b.Digest.String())
					if a.status != 200 || !bytes.Equal(a.body, b.Bytes) {
						t.Errorf("blob %s: %d with %d bytes, %v", b.Digest, a.status, len(a.body), a.err)
					}
					if a = r.get("/v2/team/app/blobs/"+b.Digest.String(), "Range", "bytes=100-199"); a.status != 206 || !bytes.Equal(a.body, b.Bytes[100:200]) {
						t.Errorf("a range of blob %s: %d with %d bytes, %v", b.Digest, a.status, len(a.body), a.err)
					}
				}
			}
			pulled()
			mirrored := func() string {
				t.Helper()
				a := r.get("/v2/docker.io/library/app/blobs/" + image.Layers[0].Digest.String())
				if a.status != 200 || !bytes.Equal(a.body, layer) {
					t.Fatalf("mirrored blob: %d with %d bytes, %v", a.status, len(a.body), a.err)
				}
				return a.header.Get("Weir-Cache")
			}
			if got := mirrored(); got != "fill" {
				t.Errorf("the first pull is a %s", got)
			}
			eventually(t, "what was mirrored is kept", func() bool { return mirrored() == "hit" })
			r.end()

			r = startOn(t, store, hub(upstream, ""))
			pulled()
			if got := mirrored(); got != "hit" {
				t.Errorf("after a restart it is a %s", got)
			}
			if a := r.do(http.MethodDelete, "/v2/team/app/manifests/v1", nil); a.status != 202 {
				t.Errorf("delete: %d", a.status)
			}
			if a := r.get("/v2/team/app/manifests/v1"); a.status != 404 {
				t.Errorf("after delete: %d", a.status)
			}
			if got := r.adminStatus("/readyz"); got != 200 {
				t.Errorf("readyz: %d", got)
			}
		})
	}
}

// TestCommandsMeetServer: wherever blobs and metadata are, a command beside a running server is
// done: by that server where it holds a directory, else by the command itself.
func TestCommandsMeetServer(t *testing.T) {
	server := s3test.Start(t)
	dir := func() string { return "{filesystem: {root: '" + t.TempDir() + "'}}" }
	in := func() string { return bucket(server, server.Bucket(t), ", spool: '"+t.TempDir()+"'") }
	for _, c := range []struct {
		name, blobs, metadata string
		asked                 bool
	}{
		{"both on disks", dir(), dir(), true},
		{"blobs in a bucket", in(), dir(), true},
		{"metadata in a bucket", dir(), in(), true},
		{"both in buckets", in(), in(), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := startOn(t, "{blobs: "+c.blobs+", metadata: "+c.metadata+"}", "")
			r.pushTree("team/app", "v1", origintest.Image(origintest.Bytes(1, 500)))
			var out, said bytes.Buffer
			if code := run(t.Context(), []string{"gc", "--json", "--config", r.config}, &out, &said); code != exitDone {
				t.Fatalf("weir gc: exit %d: %s", code, &said)
			}
			if c.asked {
				if _, err := r.log.entry(t.Context(), "asked by command"); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Clients are sent to the bucket for what is stored there and theirs to have, and for
// nothing else.
func TestRedirects(t *testing.T) {
	server := s3test.Start(t)
	upstream, private := remotetest.New(t), remotetest.New(t)
	private.Basic("bot", "secret")
	layer := origintest.Bytes(7, 200_000)
	image := upstream.AddImage("library/app", "1", layer)
	private.AddImage("app", "1", layer)
	mirrors := fmt.Sprintf(`  upstreams:
    - {name: docker.io, endpoints: [{url: '%s'}]}
    - {name: corp, endpoints: [{url: '%s', username: bot, password: secret}]}
    - {name: open, public: true, endpoints: [{url: '%s', username: bot, password: secret}]}
authz:
  basic: {users: [{name: ann, hash: '%s'}]}
  policy: {default: allow, deny: ["request.upstream == 'corp' && !identity.authenticated", "request.repository == 'team/denied'"]}
repositories:
  - {match: 'team/**'}
  - {match: 'team/closed/**', redirect: false}
`, upstream.URL(), private.URL(), private.URL(), basic.NewHash("pw").Text())
	login := []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:pw"))}
	name := server.Bucket(t)
	r := startOn(t, "{blobs: "+bucket(server, name, ", public_endpoint: '"+server.URL+"', redirect_ttl: 1m")+"}", mirrors)
	tree := origintest.Image(origintest.Bytes(1, 500), origintest.Bytes(2, 100_000))
	b := tree.Blobs[1]
	at := "/blobs/" + b.Digest.String()
	for _, repo := range []string{"team/app", "team/closed/app"} {
		r.pushTree(repo, "v1", tree)
	}
	sent := func(what string, a answer, want []byte, headers ...string) {
		t.Helper()
		to := a.header.Get("Location")
		if a.status != http.StatusTemporaryRedirect || a.header.Get("Cache-Control") != "private, no-store" || len(a.body) > 0 ||
			!strings.HasPrefix(to, server.URL+"/"+name+"/weir/data/") || !strings.Contains(to, "X-Amz-Expires=60&") {
			t.Fatalf("%s: %d to %q, %v", what, a.status, to, a.header)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the bucket gives %d with %d bytes, %v", what, resp.StatusCode, len(got), err)
		}
	}
	answered := func(what string, a answer, want []byte) {
		t.Helper()
		if a.status/100 != 2 || a.header.Get("Location") != "" || !bytes.Equal(a.body, want) {
			t.Errorf("%s: %d with %d bytes to %q, %v", what, a.status, len(a.body), a.header.Get("Location"), a.err)
		}
	}
	a := r.get("/v2/team/app" + at)
	sent("a blob", a, b.Bytes)
	if a.header.Get("Weir-Cache") != "" || a.header.Get("Docker-Content-Digest") != b.Digest.String() {
		t.Errorf("header %v", a.header)
	}
	sent("a range", r.get("/v2/team/app"+at, "Range", "bytes=5-9"), b.Bytes[5:10], "Range", "bytes=5-9")
	answered("HEAD", r.do(http.MethodHead, "/v2/team/app"+at, nil), nil)
	answered("a manifest", r.get("/v2/team/app/manifests/v1"), tree.Manifest.Bytes)
	answered("redirect: false", r.get("/v2/team/closed/app"+at), b.Bytes)
	if a := r.get("/v2/team/app"+at, "If-None-Match", `"`+b.Digest.String()+`"`); a.status != 304 {
		t.Errorf("If-None-Match: %d", a.status)
	}
	for what, path := range map[string]string{
		"denied": "/v2/team/denied" + at, "denied upstream": "/v2/corp/app/blobs/" + image.Layers[0].Digest.String(),
		"not linked": "/v2/team/other" + at, "unknown": "/v2/team/app/blobs/sha256:" + strings.Repeat("0", 64),
	} {
		if a := r.get(path); a.status/100 != 4 || a.header.Get("Location") != "" {
			t.Errorf("%s: %d to %q", what, a.status, a.header.Get("Location"))
		}
	}
	for _, up := range []string{"docker.io/library/app", "open/app"} {
		path := "/v2/" + up + "/blobs/" + image.Layers[0].Digest.String()
		if a := r.get(path); a.status != 200 {
			t.Errorf("%s, on its way: %d, %v", up, a.status, a.err)
		}
		var a answer
		eventually(t, up+" is kept", func() bool { a = r.get(path); return a.status != 200 })
		sent(up, a, layer)
		if got := a.header.Get("Weir-Cache"); got != "hit" {
			t.Errorf("%s: Weir-Cache is %q", up, got)
		}
	}
	// Those who may read what credentials of weir's own can read get it from weir itself.
	secret := "/v2/corp/app/blobs/" + image.Layers[0].Digest.String()
	var got string
	eventually(t, "corp/app is kept", func() bool {
		a := r.get(secret, login...)
		answered("an upstream with credentials", a, layer)
		got = a.header.Get("Weir-Cache")
		return t.Failed() || got == "hit"
	})
	if strings.Contains(r.log.String(), "X-Amz-Signature") {
		t.Error("an address is in the log")
	}
	r.end()

	// Without an address that clients know, or switched off, the bytes come from here.
	for _, more := range []string{"", ", public_endpoint: '" + server.URL + "', redirect: false"} {
		r = startOn(t, "{blobs: "+bucket(server, name, more)+"}", mirrors)
		answered(more, r.get("/v2/team/app"+at), b.Bytes)
		r.end()
	}
}
