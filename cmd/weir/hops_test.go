package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store/coord"
)

// TestOneFillPerCluster: clients of two replicas ask for a blob that neither has; its bytes
// come from the upstream once, and are stored once.
func TestOneFillPerCluster(t *testing.T) {
	u := remotetest.New(t)
	layer := origintest.Bytes(1, 5<<20)
	img := u.AddImage("library/app", "1", layer)
	w := newTwins(t, u, time.Minute, "")
	gate := u.GateAt("GET /v2/library/app/blobs/"+digests(img)[0], 1<<20)
	var all sync.WaitGroup
	ask := func(r *running) {
		all.Go(func() {
			a := r.get("/v2/docker.io/library/app/blobs/" + digests(img)[0])
			if a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, layer) {
				t.Errorf("%d, %d bytes, %v", a.status, len(a.body), a.err)
			}
		})
	}
	ask(w.each[0])
	if err := gate.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		ask(w.each[0])
		ask(w.each[1])
	}
	eventually(t, "the other replica follows", func() bool { return len(w.apps[1].replicas.hops.group.Running()) == 1 })
	gate.Open()
	all.Wait()
	if sent := u.Sent("blobs/" + digests(img)[0]); sent != int64(len(layer)) {
		t.Errorf("the upstream sent %d bytes of %d", sent, len(layer))
	}
	if a := w.each[1].get("/v2/docker.io/library/app/blobs/" + digests(img)[0]); a.header.Get("Weir-Cache") != "hit" && a.header.Get("Weir-Cache") != "fill" {
		t.Errorf("afterwards: %d %s", a.status, a.header.Get("Weir-Cache"))
	}
}

// TestHopIsForReplicasAlone: what is being fetched is given to nobody who does not have
// the key of the replicas, and what is asked for is what was signed.
func TestHopIsForReplicasAlone(t *testing.T) {
	u := remotetest.New(t)
	layer := origintest.Bytes(1, 2<<20)
	img := u.AddImage("library/app", "1", layer)
	u.AddImage("library/other", "1", origintest.Bytes(2, 2<<20))
	w := newTwins(t, u, time.Minute, "")
	d := digests(img)[0]
	gate := u.GateAt("GET /v2/library/app/blobs/"+d, 1<<20)
	var reader sync.WaitGroup
	defer func() { gate.Open(); reader.Wait() }()
	reader.Go(func() { w.each[0].get("/v2/docker.io/library/app/blobs/" + d) })
	if err := gate.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}

	key, err := coord.SharedKey(t.Context(), w.records)
	if err != nil {
		t.Fatal(err)
	}
	good, bad := newHops("", coord.Derive(key, "hop")), newHops("", coord.Derive(key, "hop2"))
	query := url.Values{"upstream": {"docker.io"}, "repository": {"library/app"}, "digest": {d}}.Encode()
	now := strconv.FormatInt(time.Now().Unix(), 10)
	rng := "bytes=0-99"
	nothing := w.each[0].get("/v2/_ext/nothing")
	ask := func(method, query, rng, proof string) answer {
		return w.each[0].do(method, hopPath+"?"+query, nil, "Range", rng, hopHeader, proof)
	}
	proof := now + " " + good.sign(now, query, rng)
	if a := ask(http.MethodGet, query, rng, proof); a.status != http.StatusPartialContent || !bytes.Equal(a.body, layer[:100]) {
		t.Fatalf("a replica: %d, %d bytes", a.status, len(a.body))
	}
	old := strconv.FormatInt(time.Now().Add(-2*time.Minute).Unix(), 10)
	ahead := strconv.FormatInt(time.Now().Add(2*time.Minute).Unix(), 10)
	other := strings.Replace(query, url.QueryEscape(d), url.QueryEscape(img.Digest.String()), 1)
	for what, a := range map[string]answer{
		"no proof":           ask(http.MethodGet, query, rng, ""),
		"another key":        ask(http.MethodGet, query, rng, now+" "+bad.sign(now, query, rng)),
		"no signature":       ask(http.MethodGet, query, rng, now),
		"no time":            ask(http.MethodGet, query, rng, " "+good.sign("", query, rng)),
		"an old request":     ask(http.MethodGet, query, rng, old+" "+good.sign(old, query, rng)),
		"a later request":    ask(http.MethodGet, query, rng, ahead+" "+good.sign(ahead, query, rng)),
		"another time":       ask(http.MethodGet, query, rng, old+" "+good.sign(now, query, rng)),
		"another range":      ask(http.MethodGet, query, "bytes=0-999", proof),
		"another blob":       ask(http.MethodGet, other, rng, proof),
		"one more parameter": ask(http.MethodGet, query+"&repository=library/other", rng, proof),
		"no fill of it":      ask(http.MethodGet, other, rng, now+" "+good.sign(now, other, rng)),
		"HEAD":               ask(http.MethodHead, query, rng, proof),
	} {
		if a.status != nothing.status || what != "HEAD" && !bytes.Equal(a.body, nothing.body) {
			t.Errorf("%s: %d %s, want what is told of an address that does not exist", what, a.status, a.body)
		}
	}
}

// TestHopAnswers: of another replica's answer nothing is believed that makes no sense.
func TestHopAnswers(t *testing.T) {
	repo := origintest.Repo(t, "library/app")
	key := fill.Key{Upstream: "docker.io", Repo: repo, Digest: origintest.Image([]byte("{}")).Digest()}
	for _, c := range []struct {
		status int
		header string
		ok     bool
	}{
		{200, "", true},
		{206, "bytes 10-13/100", true},
		{206, "bytes 10-13/*", false},
		{206, "bytes 10-12/100", false},
		{206, "bytes -1-2/100", false},
		{206, "bytes 10-13/12", false},
		{206, "", false},
		{302, "", false},
		{404, "", false},
		{500, "", false},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", c.header)
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(c.status)
			_, _ = fmt.Fprint(w, "1234")
		}))
		h := newHops("", []byte("key"))
		stream, err := h.ask(t.Context(), s.URL, key, 10, 4)
		if (err == nil) != c.ok {
			t.Errorf("%d %q: %v", c.status, c.header, err)
		}
		if err == nil {
			_ = stream.Close()
		}
		h.close()
		s.Close()
	}
	for _, base := range []string{"", "weir.corp", "ftp://127.0.0.1", "http://", "://"} {
		if _, err := newHops("", nil).ask(t.Context(), base, key, 0, -1); err == nil {
			t.Errorf("%q was asked", base)
		}
	}
}
