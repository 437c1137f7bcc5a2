package basic

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/authz"
)

// hashed is a hash of the cost of cheap, which no password is computed for: see rig.
func hashed(t testing.TB, text string) Hash {
	t.Helper()
	h, err := ParseHash(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// rig is a Basic whose hashes are counted and not computed: right is whoever shows the
// password "right" and their own hash.
type rig struct {
	*Basic
	takes time.Duration // what a hash takes

	mu       sync.Mutex
	costs    []cost
	now, max int
}

func newRig(t testing.TB, o Options) *rig {
	t.Helper()
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Basic: b}
	b.compute = func(h Hash, password string) bool {
		r.mu.Lock()
		r.costs = append(r.costs, h.cost)
		r.now++
		r.max = max(r.max, r.now)
		r.mu.Unlock()
		time.Sleep(r.takes)
		r.mu.Lock()
		r.now--
		r.mu.Unlock()
		return strings.HasPrefix(password, "right")
	}
	return r
}

// taken gives the costs of what was computed since it was last asked.
func (r *rig) taken() []cost {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.costs
	r.costs = nil
	return c
}

func people(users ...User) func() ([]User, error) {
	return func() ([]User, error) { return users, nil }
}

func request(name, password, from string) *http.Request {
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.RemoteAddr = from
	r.SetBasicAuth(name, password)
	return r
}

const home = "192.0.2.1:1"

func TestAuthenticate(t *testing.T) {
	b, err := New(Options{Users: people(User{"ann", hashed(t, someArgon2)}, User{"bob", hashed(t, someBcrypt)}, User{"ümit", NewHash("pässwörd")})})
	if err != nil {
		t.Fatal(err)
	}
	credentials := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for name, test := range map[string]struct {
		headers []string
		id      string
	}{
		"Argon2id":           {[]string{credentials("ann:password")}, "basic:ann"},
		"bcrypt":             {[]string{credentials("bob:U*U")}, "basic:bob"},
		"UTF-8":              {[]string{credentials("ümit:pässwörd")}, "basic:ümit"},
		"any case":           {[]string{"bAsIc " + base64.StdEncoding.EncodeToString([]byte("ann:password"))}, "basic:ann"},
		"wrong":              {[]string{credentials("ann:passwort")}, ""},
		"somebody else's":    {[]string{credentials("bob:password")}, ""},
		"nobody's":           {[]string{credentials("eve:password")}, ""},
		"empty":              {[]string{credentials("ann:")}, ""},
		"no name":            {[]string{credentials(":password")}, ""},
		"no colon":           {[]string{credentials("ann")}, ""},
		"other case":         {[]string{credentials("Ann:password")}, ""},
		"NUL behind":         {[]string{credentials("ann\x00:password")}, ""},
		"no credentials":     {nil, ""},
		"bearer":             {[]string{"Bearer password"}, ""},
		"no base64":          {[]string{"Basic ?"}, ""},
		"two headers":        {[]string{credentials("ann:password"), credentials("bob:U*U")}, ""},
		"a very long one":    {[]string{credentials("ann:" + strings.Repeat("a", MaxPassword+1))}, ""},
		"a hash as password": {[]string{credentials("ann:" + someArgon2)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/v2/", nil)
			r.Header["Authorization"] = test.headers
			for range 2 { // computed, and remembered
				who, err := b.Authenticate(r)
				if who.ID != test.id || (test.id == "") != errors.Is(err, authz.ErrNone) || err != nil && test.id != "" {
					t.Errorf("%q, %v; want %q", who.ID, err, test.id)
				}
				if test.id != "" && (who.Method != authz.MethodBasic || "basic:"+who.Username != who.ID || who.Scope != nil) {
					t.Errorf("%+v", who)
				}
			}
		})
	}
}

func TestNobodyHasAPassword(t *testing.T) {
	r := newRig(t, Options{})
	if _, err := r.Authenticate(request("ann", "right", home)); !errors.Is(err, authz.ErrNone) || len(r.taken()) > 0 {
		t.Error(err)
	}
}

// A right password is computed once a minute, a wrong one once.
func TestRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Users: people(User{"ann", hashed(t, cheap)}, User{"bob", hashed(t, cheap)})})
		want := func(name, password string, computed int, right bool) {
			t.Helper()
			_, err := r.Authenticate(request(name, password, home))
			if n := len(r.taken()); n != computed || (err == nil) != right {
				t.Errorf("%s with %s: %d computed, %v", name, password, n, err)
			}
		}
		want("ann", "right", 1, true)
		want("ann", "right", 0, true)
		want("bob", "right", 1, true) // the same password is another one
		want("ann", "right2", 1, true)
		want("annr", "ight", 1, false)
		want("ann", "wrong", 1, false)
		want("ann", "wrong", 0, false)
		time.Sleep(kept - time.Nanosecond)
		want("ann", "right", 0, true)
		time.Sleep(time.Nanosecond)
		want("ann", "right", 1, true)
		want("ann", "right", 0, true)
	})
}

// S-9: whoever is unknown costs what somebody known costs with a wrong password: as
// many hashes, with the same parameters. trust.md 1a: CVE-2023-20902.
func TestUnknownCostsTheSame(t *testing.T) {
	argon2, bcrypt := hashed(t, cheap), hashed(t, someBcrypt)
	for name, users := range map[string][]User{
		"Argon2id": {{"ann", argon2}, {"bob", argon2}},
		"bcrypt":   {{"ann", bcrypt}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{Users: people(users...)})
			for i := range 100 {
				_, known := r.Authenticate(request("ann", fmt.Sprint("wrong", i), home))
				is := r.taken()
				_, unknown := r.Authenticate(request(fmt.Sprint("eve", i), "right", home)) // which no hash of theirs is compared with
				isNot := r.taken()
				if !errors.Is(known, authz.ErrNone) || !errors.Is(unknown, authz.ErrNone) {
					t.Fatal(known, unknown)
				}
				if len(is) != 1 || len(isNot) != 1 || is[0] != isNot[0] || is[0] != users[0].Hash.cost {
					t.Fatalf("known %+v, unknown %+v", is, isNot)
				}
			}
		})
	}
	t.Run("mixed", func(t *testing.T) {
		var users []User
		for i := range 40 { // a quarter is bcrypt
			h := argon2
			if i%4 == 0 {
				h = bcrypt
			}
			users = append(users, User{fmt.Sprint("user", i), h})
		}
		r := newRig(t, Options{Users: people(users...)})
		costs := map[cost]int{}
		for i := range 1000 {
			var first cost
			for j := range 2 {
				_, _ = r.Authenticate(request(fmt.Sprint("eve", i), fmt.Sprint("wrong", j), home))
				c := r.taken()
				if j == 1 && c[0] != first {
					t.Fatalf("eve%d costs %+v, then %+v", i, first, c[0])
				}
				first = c[0]
			}
			costs[first]++
		}
		if len(costs) != 2 || costs[bcrypt.cost] < 50 || costs[bcrypt.cost] > 500 {
			t.Errorf("the unknown cost %v", costs)
		}
	})
}

// Users that change: the good file counts from the next request on, a bad one never, and
// what was remembered of the old one is forgotten.
func TestReread(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "htpasswd")
	write := func(text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		write("ann:"+cheap+"\n", time.Now().Add(-time.Hour))
		fixed := []User{{"cat", hashed(t, cheap)}}
		r := newRig(t, Options{
			Users:    func() ([]User, error) { return fixed, nil },
			Htpasswd: file,
			Log:      slog.New(slog.NewTextHandler(&log, nil)),
		})
		want := func(when string, names string, logged string) {
			t.Helper()
			for _, name := range []string{"ann", "bob", "cat"} {
				_, err := r.Authenticate(request(name, "right", home))
				if (err == nil) != strings.Contains(names, name) {
					t.Errorf("%s: %s is %v", when, name, err)
				}
			}
			if got := strings.Count(log.String(), "\n"); (got > 0) != (logged != "") || got > 1 || !strings.Contains(log.String(), logged) {
				t.Errorf("%s: logged %q, want %q", when, log.String(), logged)
			}
			log.Reset()
		}
		want("at first", "ann cat", "")
		write("bob:"+cheap+"\n", time.Now())
		want("within a second", "ann cat", "")
		time.Sleep(time.Second)
		want("changed", "bob cat", "read again")

		stamp, ok := r.Stamp("basic:bob")
		other := strings.Replace(cheap, "c29tZXNhbHQ", "b3RoZXJzYWx0", 1)
		time.Sleep(time.Second - still/2)
		write("bob:"+other+"\n", time.Now())
		time.Sleep(still / 2)
		want("half-written", "bob cat", "")
		time.Sleep(time.Second)
		want("still", "bob cat", "read again")
		if again, known := r.Stamp("basic:bob"); !ok || !known || again == stamp {
			t.Errorf("the stamp of another hash is %q after %q", again, stamp)
		}
		for _, id := range []string{"basic:ann", "bob", "oidc:x:bob", "basic:"} {
			if _, known := r.Stamp(id); known {
				t.Errorf("%s is known", id)
			}
		}

		for _, bad := range []string{"ann:" + cheap + "\nbob:hunter2\n", "", "ann:" + cheap + "\ncat:" + cheap + "\n"} {
			write(bad, time.Now().Add(-time.Minute))
			time.Sleep(time.Second)
			want("bad: "+bad, "bob cat", "not taken")
			time.Sleep(time.Minute)
			want("still bad: "+bad, "bob cat", "")
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		want("away", "bob cat", "not taken")
		time.Sleep(time.Second)
		want("still away", "bob cat", "")

		// As Kubernetes does it: another file behind the same name.
		if err := os.WriteFile(filepath.Join(dir, "new"), []byte("ann:"+cheap+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(dir, "new"), file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		want("a link", "ann cat", "read again")

		// And one of the same size and time.
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		next := filepath.Join(dir, "next")
		if err := errors.Join(
			os.WriteFile(next, []byte("bob:"+cheap+"\n"), 0o600), os.Chtimes(next, info.ModTime(), info.ModTime()),
			os.Symlink(next, filepath.Join(dir, "link")), os.Rename(filepath.Join(dir, "link"), file),
		); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		want("another link", "bob cat", "read again")

		fixed = []User{{"ann", hashed(t, cheap)}}
		time.Sleep(time.Second)
		want("the configuration's own", "ann bob", "read again")
	})
}

// What was right under an old file is not remembered under a new one.
func TestChangedPasswordIsForgotten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte("ann:"+NewHash("old").Text()), 0o600); err != nil {
		t.Fatal(err)
	}
	changed := NewHash("new").Text()
	synctest.Test(t, func(t *testing.T) {
		b, err := New(Options{Htpasswd: file})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Authenticate(request("ann", "old", home)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Authenticate(request("ann", "new", home)); err == nil {
			t.Fatal("new is right already")
		}
		if err := os.WriteFile(file, []byte("ann:"+changed+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := b.Authenticate(request("ann", "old", home)); !errors.Is(err, authz.ErrNone) {
			t.Errorf("the old password: %v", err)
		}
		if _, err := b.Authenticate(request("ann", "new", home)); err != nil {
			t.Errorf("the new password: %v", err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	ann := User{"ann", hashed(t, cheap)}
	for name, o := range map[string]Options{
		"no file":     {Htpasswd: filepath.Join(dir, "none")},
		"a directory": {Htpasswd: dir},
		"a device":    {Htpasswd: "/dev/null"},
		"a bad line":  {Htpasswd: file("bad", "ann:"+cheap+"\nbob:{SHA}x\n")},
		"empty":       {Htpasswd: file("empty", "")},
		"too large":   {Htpasswd: file("large", strings.Repeat("#\n", largest/2+1))},
		"twice":       {Users: people(ann, ann)},
		"in both":     {Users: people(ann), Htpasswd: file("both", "ann:"+cheap)},
		"cannot say":  {Users: func() ([]User, error) { return nil, errors.New("x") }},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: it is taken", name)
		} else if o.Htpasswd != "" && !strings.Contains(err.Error(), o.Htpasswd) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkRemembered(b *testing.B) {
	known, err := New(Options{Users: people(User{"ann", hashed(b, someArgon2)})})
	if err != nil {
		b.Fatal(err)
	}
	r := request("ann", "password", home)
	if _, err := known.Authenticate(r); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := known.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	h := NewHash("password")
	b.ReportAllocs()
	for b.Loop() {
		if !h.matches("password") {
			b.Fatal("it does not match")
		}
	}
}
