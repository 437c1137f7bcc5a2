package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// TestRefusedRights: fifty wait for one cold digest, and others ask too, who may have it or
// not; the upstream is asked once, for those who may, and refuses. Those are told what the
// upstream's word means, and everybody else what they always are, without waiting for it
// (trust.md, R-4).
func TestRefusedRights(t *testing.T) {
	t.Parallel()
	const each = 25
	refusals := map[int]int{401: 404, 403: 404, 404: 404, 429: 503, 500: 502}
	upstreams := map[string]*remotetest.Upstream{}
	name := func(refusal int) string { return fmt.Sprintf("says%d.test", refusal) }
	for refusal := range refusals {
		upstreams[name(refusal)] = remotetest.New(t)
	}
	r := annsAlone(t, "", upstreams)
	if a := r.as("bob", knock{method: http.MethodGet, path: "/v2/"}); a.status != http.StatusOK { // his password is known
		t.Fatalf("%d %s", a.status, a.body)
	}
	for refusal, told := range refusals {
		t.Run(fmt.Sprint(refusal), func(t *testing.T) {
			u := upstreams[name(refusal)]
			blob := func(content string) knock {
				return knock{method: http.MethodGet, path: "/v2/" + name(refusal) + "/" + secretRepo + "/blobs/" + u.AddBlob(secretRepo, []byte(content)).Digest.String()}
			}
			// The upstream has been seen to ask for a password.
			if a := r.as("ann", blob("known")); a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
			eventually(t, "it has ended", func() bool { return r.count("weir_fills_active") == 0 && r.count("weir_fill_followers") == 0 })
			u.Take()
			cold := blob("cold")
			u.Fault("GET", remotetest.Status(refusal, "Retry-After", "70"))
			gate := u.Gate("GET")
			var waiting, others sync.WaitGroup
			t.Cleanup(waiting.Wait)
			t.Cleanup(gate.Open)
			ask := func(who string, want int) {
				a := r.as(who, cold)
				if a.status != want || a.err != nil {
					t.Errorf("%q: %d %s, %v, want %d", who, a.status, a.body, a.err, want)
				}
				if asked := a.header.Get("Www-Authenticate") != ""; asked != (who == "") {
					t.Errorf("%q: %v", who, a.header)
				}
				if later := a.header.Get("Retry-After") != ""; later != (who == "ann" && want == http.StatusServiceUnavailable) {
					t.Errorf("%q: %v", who, a.header)
				}
			}
			for range each {
				waiting.Go(func() { ask("ann", told) })
				others.Go(func() { ask("bob", http.StatusForbidden) })
				others.Go(func() { ask("", http.StatusUnauthorized) })
			}
			others.Wait() // while nothing has been answered
			eventually(t, "all who may have it wait", func() bool { return r.count("weir_fill_followers") == each })
			gate.Open()
			waiting.Wait()
			at := "GET " + strings.Replace(cold.path, name(refusal)+"/", "", 1) + " "
			if asked := u.Take(); len(asked) != 1 || !strings.HasPrefix(asked[0], at) || !strings.HasSuffix(asked[0], fmt.Sprint(" ", refusal)) {
				t.Errorf("the upstream was asked\n%s", strings.Join(asked, "\n"))
			}
		})
	}
}
