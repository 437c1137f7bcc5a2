package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/origintest"
)

// TestSessionTheft tries 1,000 times to get at an upload that somebody else began, or to
// have it take what is not its next chunk (trust.md, S-4; Quay's CVE-2026-32589). What is
// answered is 400, 404 or 416, and the upload stays what it was: its owner ends it, and
// its blob is what they sent.
func TestSessionTheft(t *testing.T) {
	const seed = 20261127
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t, []string{"ann", "eve"}, `{allow: ['identity.authenticated']}`, "")
	ann := w.visitor("basic", "ann")
	thieves := map[string]*visitor{
		"eve, by her password": w.visitor("basic", "eve"), "eve, by a token": w.visitor("bearer", "eve"),
		"eve, by a provider": w.visitor("oidc", "eve"), "ann of a provider": w.visitor("oidc", "ann"), "ann of a certificate": w.visitor("mtls", "ann"),
	}
	var names []string
	for name := range thieves {
		names = append(names, name)
	}
	slices.Sort(names)
	const repo, elsewhere = "team/app", "team/other"
	blob := origintest.Bytes(7, 3000)
	sum := digest.FromBytes(blob)
	upload := func(repo, id, query string) string { return "/v2/" + repo + "/blobs/uploads/" + id + query }
	content := func(from, to int) string { return fmt.Sprintf("%d-%d", from, to-1) }

	id := ann.session(repo)
	if a := ann.do(repo, http.MethodPatch, upload(repo, id, ""), blob[:1000], "Content-Range", content(0, 1000)); a.status != 202 {
		t.Fatalf("the first chunk: %d %s", a.status, a.body)
	}
	done := ann.session(repo)
	if a := ann.do(repo, http.MethodPut, upload(repo, done, "?digest="+digest.FromString("x").String()), []byte("x")); a.status != 201 {
		t.Fatalf("an upload that ends: %d %s", a.status, a.body)
	}
	methods := []string{http.MethodGet, http.MethodPatch, http.MethodPut, http.MethodDelete}
	flipped := func() string {
		b := []byte(id)
		i := random.IntN(len(b))
		b[i] = "0123456789abcdef"[(strings.IndexByte("0123456789abcdef", b[i])+1+random.IntN(15))%16]
		return string(b)
	}
	tries := map[string]func() (answer, []int){
		"somebody else's": func() (answer, []int) {
			v, method := thieves[names[random.IntN(len(names))]], methods[random.IntN(len(methods))]
			return v.do(repo, method, upload(repo, id, "?digest="+sum.String()), blob[1000:]), []int{404}
		},
		"nobody's": func() (answer, []int) {
			return w.send(w.plain, methods[random.IntN(len(methods))], upload(repo, id, "?digest="+sum.String()), blob[1000:]), []int{401}
		},
		"elsewhere": func() (answer, []int) {
			return ann.do(elsewhere, methods[random.IntN(len(methods))], upload(elsewhere, id, "?digest="+sum.String()), blob[1000:]), []int{404}
		},
		"a forged id": func() (answer, []int) {
			return ann.do(repo, methods[random.IntN(len(methods))], upload(repo, flipped(), "?digest="+sum.String()), blob[1000:]), []int{404}
		},
		"one that ended": func() (answer, []int) {
			return ann.do(repo, methods[random.IntN(len(methods))], upload(repo, done, "?digest="+sum.String()), blob[1000:]), []int{404}
		},
		"out of order": func() (answer, []int) {
			from := random.IntN(2999)
			if from == 1000 {
				from++
			}
			return ann.do(repo, http.MethodPatch, upload(repo, id, ""), blob[from:3000], "Content-Range", content(from, 3000)), []int{416}
		},
		"the first chunk again": func() (answer, []int) {
			return ann.do(repo, http.MethodPatch, upload(repo, id, ""), blob[:1000], "Content-Range", content(0, 1000)), []int{416}
		},
		"another length": func() (answer, []int) {
			return ann.do(repo, http.MethodPatch, upload(repo, id, ""), blob[1000:1500], "Content-Range", content(1000, 3000)), []int{400}
		},
		"no range": func() (answer, []int) {
			return ann.do(repo, http.MethodPatch, upload(repo, id, ""), nil, "Content-Range", []string{"x", "5-1", "1000", "-1-5", "1000-99999999999999999999"}[random.IntN(5)]), []int{400, 416}
		},
		"no digest": func() (answer, []int) {
			return ann.do(repo, http.MethodPut, upload(repo, id, []string{"", "?digest=", "?digest=md5:d41d8cd98f00b204e9800998ecf8427e", "?digest=sha256:00"}[random.IntN(4)]), nil), []int{400}
		},
	}
	var kinds []string
	for kind := range tries {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	for i := range 1000 {
		kind := kinds[i%len(kinds)]
		got, want := tries[kind]()
		if !slices.Contains(want, got.status) || got.err != nil {
			t.Errorf("try %d, %s: %d %s, want %v", i, kind, got.status, got.body, want)
		}
		if state := ann.do(repo, http.MethodGet, upload(repo, id, ""), nil); state.status != 204 || state.header.Get("Range") != "0-999" {
			t.Fatalf("try %d, %s: the upload is now %d %v", i, kind, state.status, state.header)
		}
	}
	if a := ann.do(repo, http.MethodPut, upload(repo, id, "?digest="+sum.String()), blob[1000:], "Content-Range", content(1000, 3000)); a.status != 201 {
		t.Fatalf("the end: %d %s", a.status, a.body)
	}
	if a := ann.do(repo, http.MethodGet, "/v2/"+repo+"/blobs/"+sum.String(), nil); a.status != 200 || digest.FromBytes(a.body) != sum {
		t.Errorf("the blob: %d, %d bytes", a.status, len(a.body))
	}
	if a := ann.do(elsewhere, http.MethodGet, "/v2/"+elsewhere+"/blobs/"+sum.String(), nil); a.status != 404 {
		t.Errorf("elsewhere: %d", a.status)
	}
}

// TestSessionsAtOnce: of chunks that are sent at once one is the next one, and the others
// are not; what is committed is one of them, whole.
func TestSessionsAtOnce(t *testing.T) {
	w := newWorld(t, []string{"ann"}, `{allow: ['identity.authenticated']}`, "")
	ann := w.visitor("mtls", "ann")
	const repo = "team/app"
	for round := range 20 {
		id := ann.session(repo)
		path := "/v2/" + repo + "/blobs/uploads/" + id
		var all sync.WaitGroup
		statuses := make([]int, 8)
		for i := range statuses {
			all.Go(func() {
				chunk := origintest.Bytes(uint64(i), 50<<10)
				statuses[i] = ann.do(repo, http.MethodPatch, path, chunk, "Content-Range", fmt.Sprintf("0-%d", len(chunk)-1)).status
			})
		}
		all.Wait()
		winner := -1
		for i, status := range statuses {
			switch {
			case status == 202 && winner < 0:
				winner = i
			case status != 416:
				t.Errorf("round %d: %v", round, statuses)
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: none got in: %v", round, statuses)
		}
		sum := digest.FromBytes(origintest.Bytes(uint64(winner), 50<<10))
		if a := ann.do(repo, http.MethodPut, path+"?digest="+sum.String(), nil); a.status != 201 {
			t.Errorf("round %d: %d %s", round, a.status, a.body)
		}
	}
}

// TestSessionEnds: a wrong digest ends an upload and leaves nothing, one of another
// algorithm than it was begun with is as good as any, and a blob may have no bytes.
func TestSessionEnds(t *testing.T) {
	w := newWorld(t, []string{"ann"}, `{allow: ['identity.authenticated']}`, "")
	ann := w.visitor("basic", "ann")
	const repo = "team/app"
	blob := origintest.Bytes(9, 500)
	for name, x := range map[string]struct {
		begin, sum string
		body       []byte
		status     int
	}{
		"another algorithm":           {"", digest.SHA512.FromBytes(blob).String(), blob, 201},
		"the other way round":         {"?digest-algorithm=sha512", digest.FromBytes(blob).String(), blob, 201},
		"a wrong one of another":      {"", digest.SHA512.FromBytes(blob[1:]).String(), blob, 400},
		"a wrong one":                 {"", digest.FromBytes(blob[1:]).String(), blob, 400},
		"no bytes":                    {"", digest.FromBytes(nil).String(), nil, 201},
		"no bytes, sha512":            {"?digest-algorithm=sha512", digest.SHA512.FromBytes(nil).String(), nil, 201},
		"no bytes, and another's sum": {"", digest.FromBytes(blob[2:]).String(), nil, 400},
	} {
		t.Run(name, func(t *testing.T) {
			a := ann.do(repo, http.MethodPost, "/v2/"+repo+"/blobs/uploads/"+x.begin, nil)
			path := "/v2/" + repo + "/blobs/uploads/" + a.header.Get("Docker-Upload-UUID")
			if a := ann.do(repo, http.MethodPut, path+"?digest="+x.sum, x.body); a.status != x.status {
				t.Errorf("%d %s", a.status, a.body)
			}
			if a := ann.do(repo, http.MethodGet, path, nil); a.status != 404 {
				t.Errorf("it goes on: %d", a.status)
			}
			a = ann.do(repo, http.MethodGet, "/v2/"+repo+"/blobs/"+x.sum, nil)
			if there := a.status == 200; there != (x.status == 201) {
				t.Errorf("the blob: %d", a.status)
			}
		})
	}
}
