package main

import (
	"errors"
	"net/http"
	"path/filepath"
	"testing"
)

// TestUpstream: the upstream that others are measured against answers as registries
// do, counts what is asked, and can be in trouble.
func TestUpstream(t *testing.T) {
	d, err := newDataset(filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	i, err := d.image(1, 100*kB, 2)
	if err != nil {
		t.Fatal(err)
	}
	u, err := newUpstream(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.close(); err != nil {
			t.Error(err)
		}
	})
	u.put("lib/app", "v1", i)
	c := newClient(u.url[len("http://"):])
	defer c.close()

	_, _, err = c.pull(t.Context(), "lib/app", "v1", i)
	if status, ok := errors.AsType[*statusError](err); !ok || status.got != http.StatusUnauthorized {
		t.Fatalf("without a token: %v", err)
	}
	c.token = tokenFor("lib/other")
	if err := c.manifest(t.Context(), "lib/app", "v1", i); err == nil {
		t.Fatal("another repository's token is good")
	}
	c.token = tokenFor("lib/app")
	u.forget()
	first, total, err := c.pull(t.Context(), "lib/app", "v1", i)
	if err != nil {
		t.Fatal(err)
	}
	if first < 2*upstreamDelay || total < first {
		t.Errorf("first byte after %v, all after %v: nobody is that fast", first, total)
	}
	if requests, further, sent := u.counts(); requests != 4 || further != 0 || sent != i.size() {
		t.Errorf("%d requests, %d for further ranges, %d bytes of %d", requests, further, sent, i.size())
	}

	began := newClient(u.url[len("http://"):])
	defer began.close()
	began.anew = true
	u.forget()
	if first, _, err = began.pull(t.Context(), "lib/app", "v1", i); err != nil {
		t.Fatal(err)
	}
	if requests, _, _ := u.counts(); requests != 6 || first < 4*upstreamDelay {
		t.Errorf("a pull without a token made %d requests, and had its first byte after %v", requests, first)
	}

	u.forget()
	path := c.path("lib/app", "blobs/"+i.layers()[0].digest.String())
	for _, r := range []string{"bytes=0-9", "bytes=10-19", "bytes=20-29"} {
		if err := finish(c.do(t.Context(), http.MethodGet, path, nil, 0, http.StatusPartialContent, "Range", r)); err != nil {
			t.Fatal(err)
		}
	}
	if requests, further, sent := u.counts(); requests != 3 || further != 2 || sent != 30 {
		t.Errorf("%d requests, %d for further ranges, %d bytes", requests, further, sent)
	}

	u.become(limiting)
	if err := finish(c.do(t.Context(), http.MethodGet, path, nil, 0, http.StatusTooManyRequests)); err != nil {
		t.Error(err)
	}
}

// TestClientChecks: a client that takes wrong bytes for right ones measures nothing.
func TestClientChecks(t *testing.T) {
	d, err := newDataset(filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	good, err := d.image(1, kB, 1)
	if err != nil {
		t.Fatal(err)
	}
	bad, err := d.image(2, kB, 1)
	if err != nil {
		t.Fatal(err)
	}
	u, err := newUpstream(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.close(); err != nil {
			t.Error(err)
		}
	})
	lying := good
	lying.blobs = []chunk{good.blobs[0], {file: bad.blobs[1].file, n: kB, digest: good.blobs[1].digest}}
	u.put("lib/app", "v1", lying)
	c := newClient(u.url[len("http://"):])
	defer c.close()
	c.token = tokenFor("lib/app")
	if _, _, err := c.pull(t.Context(), "lib/app", "v1", good); err == nil {
		t.Error("other bytes than the digest says are taken")
	}
	if err := c.manifest(t.Context(), "lib/app", "v1", bad); err == nil {
		t.Error("another manifest is taken")
	}
}

// TestTokenURL: a challenge says where there is a token, and for what; what is no
// challenge is an error.
func TestTokenURL(t *testing.T) {
	for challenge, want := range map[string]string{
		`Bearer realm="http://h/token",service="s",scope="repository:a/b:pull"`: "http://h/token?scope=repository%3Aa%2Fb%3Apull&service=s",
		`Basic realm="x"`:       "",
		`Bearer realm="http:`:   "",
		`Bearer realm=http://h`: "",
		"":                      "",
	} {
		got, err := tokenURL(challenge)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v", challenge, got, err)
		}
	}
}
