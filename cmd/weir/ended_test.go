package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/store/mem"
)

// Sessions that were ended are known until nobody could believe them any more, and then
// forgotten.
func TestEndedSessions(t *testing.T) {
	e := endedSessions{mem.NewRecords()}
	ctx, now := t.Context(), time.Unix(1_800_000_000, 0)
	until := map[string]time.Time{"A": now.Add(-2 * time.Hour), "B": now.Add(-time.Minute), "C": now.Add(time.Hour)}
	for name, at := range until {
		if err := e.End(ctx, name, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct {
		now   time.Time
		known string
	}{{now.Add(-2 * time.Hour), "ABC"}, {now, "BC"}, {now.Add(2 * time.Hour), ""}} {
		if err := e.sweep(ctx, x.now); err != nil {
			t.Fatal(err)
		}
		var known strings.Builder
		for _, name := range []string{"A", "B", "C", "D"} {
			ended, err := e.Ended(ctx, name, until[name])
			if err != nil {
				t.Fatal(err)
			}
			if ended {
				known.WriteString(name)
			}
		}
		if known.String() != x.known {
			t.Errorf("at %v %q are known, want %q", x.now, known.String(), x.known)
		}
	}
	stopped, stop := context.WithCancel(ctx)
	stop()
	if ended, err := e.Ended(stopped, "C", until["C"]); err == nil || ended {
		t.Errorf("where it cannot be known: %v, %v", ended, err)
	}
}

// Who has signed out is out: the session's cookie is nobody's, also after a restart.
func TestSignedOutIsOut(t *testing.T) {
	data := t.TempDir()
	text := "log: {format: json}\nserver: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\nstore: {blobs: {filesystem: {root: '" + data + "'}}}\n" +
		"mirror: {well_known: false}\nauthz: {basic: {users: [{name: ann, hash: '" + basic.NewHash("pw").Text() + "'}]}, policy: {default: allow}}\n"
	r := startText(t, data, text)
	signIn := func() (cookie string) {
		t.Helper()
		a := r.do(http.MethodPost, "/ui/login", strings.NewReader("username=ann&password=pw"), "Content-Type", "application/x-www-form-urlencoded")
		if a.status != http.StatusSeeOther {
			t.Fatalf("signed in: %d %s", a.status, a.body)
		}
		cookie, _, _ = strings.Cut(a.header.Get("Set-Cookie"), ";")
		return cookie
	}
	is := func(cookie string) bool {
		return strings.Contains(string(r.get("/ui/me", "Cookie", cookie).body), "basic:ann")
	}
	first, second := signIn(), signIn()
	if !is(first) || !is(second) {
		t.Fatal("not signed in")
	}
	if a := r.do(http.MethodPost, "/ui/logout", nil, "Cookie", first); a.status != http.StatusSeeOther {
		t.Errorf("signed out: %d %s", a.status, a.body)
	}
	for life := range 2 {
		if got := fmt.Sprint(is(first), is(second)); got != "false true" {
			t.Errorf("in life %d: %s", life, got)
		}
		if life == 0 {
			r.end()
			r = startText(t, data, text)
		}
	}
}
