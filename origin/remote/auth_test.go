package remote_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
	"github.com/weir-registry/weir/origin/remote/login"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// tokenURI is what the log has of a request for a token to pull from x.
const tokenURI = "/token?scope=repository%3Ax%3Apull&service=remotetest"

func TestColdPullRequests(t *testing.T) {
	u := remotetest.New(t)
	u.Bearer(remotetest.Bearer{})
	u.CDN()
	img := u.AddImage("x", "1", []byte("layer"))
	r, x := open(t, u.URL()), repo(t, "x")

	d, err := r.Resolve(t.Context(), x, ref(t, "1"))
	if err != nil || d.Digest != img.Digest || d.Size != img.Size || d.MediaType != img.MediaType {
		t.Fatalf("Resolve: %+v, %v", d, err)
	}
	if d.Source != (origin.Source{Upstream: u.Host()}) {
		t.Errorf("source %+v", d.Source)
	}
	m, err := r.Manifest(t.Context(), x, origin.ByDigest(d.Digest))
	if err != nil || string(m.Bytes) != string(img.Bytes) {
		t.Fatalf("Manifest: %q, %v", m.Bytes, err)
	}
	layer := img.Layers[0].Digest
	if got := readBlob(t, r, x, layer); got != "layer" {
		t.Errorf("blob %q", got)
	}
	equal(t, u.Requests(), []string{
		"GET /v2/ 401",
		"GET token:" + tokenURI + " 200",
		"HEAD /v2/x/manifests/1 200",
		"GET /v2/x/manifests/" + img.Digest.String() + " 200",
		"GET /v2/x/blobs/" + layer.String() + " 307",
		"GET cdn:/x/" + layer.String() + "?signature=s3cr3t 200",
	})
	for _, req := range u.Log() {
		if req.Server != "" && req.Header.Get("Authorization") != "" {
			t.Errorf("%s has %q", req, req.Header.Get("Authorization"))
		}
		if req.Header.Get("User-Agent") != "weir/test" || req.Header.Get("Accept-Encoding") != "" || req.Header.Get("Cookie") != "" {
			t.Errorf("%s has the header %v", req, req.Header)
		}
	}
	accept := u.Log()[2].Header.Get("Accept")
	if accept != strings.Join(origin.ManifestTypes(), ", ") {
		t.Errorf("a tag is asked for as %q", accept)
	}
}

func TestAnonymousUpstreamGivesNoTokens(t *testing.T) {
	u := remotetest.New(t)
	u.AddImage("x", "1")
	r := open(t, u.URL(), as("u", "p"))
	for range 2 {
		if _, err := r.Resolve(t.Context(), repo(t, "x"), ref(t, "1")); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, u.Requests(), []string{"GET /v2/ 200", "HEAD /v2/x/manifests/1 200", "HEAD /v2/x/manifests/1 200"})
	for _, req := range u.Log() {
		if got := req.Header.Get("Authorization"); got != "" {
			t.Errorf("%s has %q, which nobody asked for", req, got)
		}
	}
}

func TestPathIsARepositoryPrefix(t *testing.T) {
	u := remotetest.New(t)
	u.Bearer(remotetest.Bearer{})
	u.AddImage("proj/x", "1")
	r := open(t, u.URL().JoinPath("proj"))
	if _, err := r.Resolve(t.Context(), repo(t, "x"), ref(t, "1")); err != nil {
		t.Fatal(err)
	}
	equal(t, u.Requests(), []string{
		"GET /v2/ 401",
		"GET token:/token?scope=repository%3Aproj%2Fx%3Apull&service=remotetest 200",
		"HEAD /v2/proj/x/manifests/1 200",
	})
}

// All wait for one ping and one token: none of them finds the flight of another
// landed and starts a second, since both are looked up again inside a flight.
func TestOneTokenHoweverManyAsk(t *testing.T) {
	u := remotetest.New(t)
	u.Bearer(remotetest.Bearer{AccessToken: true})
	blob := u.AddBlob("x", []byte("b"))
	r, x := open(t, u.URL()), repo(t, "x")
	gate := u.Gate("GET token:")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := r.Stat(t.Context(), x, blob.Digest); err != nil {
				t.Error(err)
			}
		})
	}
	if err := gate.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	gate.Open()
	all.Wait()
	if pings, tokens := u.Count("GET /v2/ "), u.Count("GET token:"); pings != 1 || tokens != 1 {
		t.Errorf("%d pings, %d tokens", pings, tokens)
	}
}

// The one whose call fetches the token leaves while it is under way: the others
// have it all the same, and it is not fetched again.
func TestTokenOutlivesWhoAskedFirst(t *testing.T) {
	u := remotetest.New(t)
	u.Bearer(remotetest.Bearer{})
	blob := u.AddBlob("x", []byte("b"))
	r, x := open(t, u.URL()), repo(t, "x")
	gate := u.Gate("GET token:")
	first, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := r.Stat(first, x, blob.Digest)
		left <- err
	}()
	if err := gate.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	leave()
	if err := <-left; err != context.Canceled {
		t.Errorf("who left is told %v", err)
	}
	second := make(chan error)
	go func() {
		_, err := r.Stat(t.Context(), x, blob.Digest)
		second <- err
	}()
	gate.Open()
	if err := <-second; err != nil {
		t.Error(err)
	}
	if tokens := u.Count("GET token:"); tokens != 1 {
		t.Errorf("%d tokens", tokens)
	}
}

func TestLapsedTokenIsReplacedOnce(t *testing.T) {
	u := remotetest.New(t)
	u.Bearer(remotetest.Bearer{})
	blob := u.AddBlob("x", []byte("b"))
	r, x := open(t, u.URL()), repo(t, "x")
	stat := "HEAD /v2/x/blobs/" + blob.Digest.String()
	get := "GET /v2/x/blobs/" + blob.Digest.String()
	if _, err := r.Stat(t.Context(), x, blob.Digest); err != nil {
		t.Fatal(err)
	}
	u.Take()

	u.RevokeTokens()
	if _, err := r.Stat(t.Context(), x, blob.Digest); err != nil {
		t.Error(err)
	}
	equal(t, u.Take(), []string{stat + " 401", "GET token:" + tokenURI + " 200", stat + " 200"})

	// ECR says it so.
	var said sync.Once
	undo := u.Fault(get, remotetest.Hook(func(w http.ResponseWriter, _ *http.Request) (done bool) {
		said.Do(func() {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}`)
			done = true
		})
		return done
	}))
	if got := readBlob(t, r, x, blob.Digest); got != "b" {
		t.Errorf("%q", got)
	}
	undo()
	equal(t, u.Take(), []string{get + " 403", "GET token:" + tokenURI + " 200", get + " 200"})

	// A HEAD has no body to say it in.
	denied := true
	undo = u.Fault(stat, remotetest.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		if !denied {
			return false
		}
		denied = false
		w.WriteHeader(http.StatusForbidden)
		return true
	}))
	if _, err := r.Stat(t.Context(), x, blob.Digest); err != nil {
		t.Error(err)
	}
	undo()
	equal(t, u.Take(), []string{stat + " 403", "GET token:" + tokenURI + " 200", stat + " 200"})

	// A new token that is refused as well is the answer.
	u.Fault(stat, remotetest.Status(401))
	_, err := r.Stat(t.Context(), x, blob.Digest)
	if e := upstreamError(t, err); !e.Denied() || !errors.Is(err, origin.ErrBlobUnknown) {
		t.Error(err)
	}
	equal(t, u.Take(), []string{stat + " 401", "GET token:" + tokenURI + " 200", stat + " 401"})
}

func TestFreshTokenThatIsRefusedIsTheAnswer(t *testing.T) {
	u := remotetest.New(t)
	u.Bearer(remotetest.Bearer{Username: "u", Password: "p"})
	u.AddImage("x", "1")
	r := open(t, u.URL())
	_, err := r.Manifest(t.Context(), repo(t, "x"), ref(t, "1"))
	if e := upstreamError(t, err); !e.Denied() || !errors.Is(err, origin.ErrManifestUnknown) {
		t.Error(err)
	}
	equal(t, u.Requests(), []string{"GET /v2/ 401", "GET token:" + tokenURI + " 200", "GET /v2/x/manifests/1 401"})
}

func TestChallengeIsLearntAgain(t *testing.T) {
	u := remotetest.New(t)
	u.AddImage("x", "1")
	r, x := open(t, u.URL(), as("u", "p")), repo(t, "x")
	resolve := func() {
		t.Helper()
		if _, err := r.Resolve(t.Context(), x, ref(t, "1")); err != nil {
			t.Error(err)
		}
	}
	resolve()
	equal(t, u.Take(), []string{"GET /v2/ 200", "HEAD /v2/x/manifests/1 200"})
	u.Basic("u", "p")
	resolve()
	equal(t, u.Take(), []string{"HEAD /v2/x/manifests/1 401", "HEAD /v2/x/manifests/1 200"})
	u.Bearer(remotetest.Bearer{Username: "u", Password: "p", Own: true})
	resolve()
	equal(t, u.Take(), []string{
		"HEAD /v2/x/manifests/1 401",
		"GET /token?account=u&scope=repository%3Ax%3Apull&service=remotetest 200",
		"HEAD /v2/x/manifests/1 200",
	})
	resolve()
	equal(t, u.Take(), []string{"HEAD /v2/x/manifests/1 200"})
}

// The endpoint is named, not numbered: that its address is on loopback is learnt
// when it is dialled, and lets it lead to another one there.
func TestNameOfAnInternalEndpoint(t *testing.T) {
	u := remotetest.New(t)
	u.Bearer(remotetest.Bearer{})
	u.CDN()
	d := u.AddBlob("x", []byte("b")).Digest
	at := u.URL()
	at.Host = "localhost:" + at.Port()
	if got := readBlob(t, open(t, at), repo(t, "x"), d); got != "b" {
		t.Errorf("%q", got)
	}
}

func TestPasswordIsAskedForEachTime(t *testing.T) {
	u := remotetest.New(t)
	u.AddImage("x", "1")
	u.Basic("u", "new")
	passwords := []string{"old", "new"}
	r := open(t, u.URL(), func(o *remote.Options) {
		o.Login = login.Static("u", func() (string, error) {
			p := passwords[0]
			passwords = passwords[1:]
			return p, nil
		})
	})
	if _, err := r.Resolve(t.Context(), repo(t, "x"), ref(t, "1")); err != nil {
		t.Error(err)
	}
	equal(t, u.Requests(), []string{"GET /v2/ 401", "HEAD /v2/x/manifests/1 401", "HEAD /v2/x/manifests/1 200"})
}

func TestWrongPasswordIsDenied(t *testing.T) {
	x := repo(t, "x")
	for name, arm := range map[string]func(*remotetest.Upstream){
		"basic":  func(u *remotetest.Upstream) { u.Basic("u", "p") },
		"bearer": func(u *remotetest.Upstream) { u.Bearer(remotetest.Bearer{Username: "u", Password: "p", Own: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			arm(u)
			u.AddImage("x", "1")
			_, err := open(t, u.URL(), as("u", "canary-9f")).Manifest(t.Context(), x, ref(t, "1"))
			if e := upstreamError(t, err); !e.Denied() {
				t.Error(err)
			}
			if encoded := base64.StdEncoding.EncodeToString([]byte("u:canary-9f")); strings.Contains(err.Error(), "canary-9f") || strings.Contains(err.Error(), encoded) {
				t.Errorf("the password is in %q", err)
			}
		})
	}
}

func TestTokenServerTroubleIsAnOutage(t *testing.T) {
	tests := map[string]struct {
		fault remotetest.Fault
		is    func(*origin.UpstreamError) bool
	}{
		"503":       {remotetest.Status(503), (*origin.UpstreamError).Outage},
		"404":       {remotetest.Status(404), (*origin.UpstreamError).Outage},
		"403":       {remotetest.Status(403), (*origin.UpstreamError).Denied},
		"html":      {remotetest.HTML(), (*origin.UpstreamError).Outage},
		"cut":       {remotetest.Cut(5), (*origin.UpstreamError).Outage},
		"no token":  {answer(`{"token":""}`), (*origin.UpstreamError).Outage},
		"injection": {answer(`{"token":"a\r\nX-Evil: 1"}`), (*origin.UpstreamError).Outage},
		"endless":   {answer(`{"token":"` + strings.Repeat("a", 1<<20) + `"}`), (*origin.UpstreamError).Outage},
		"429": {remotetest.Status(429, "Retry-After", "7"), func(e *origin.UpstreamError) bool {
			return e.Limited() && e.RetryAfter == 7*time.Second
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			u := remotetest.New(t)
			u.Bearer(remotetest.Bearer{})
			u.AddImage("x", "1")
			undo := u.Fault("GET token:", test.fault)
			r, x := open(t, u.URL()), repo(t, "x")
			_, err := r.Resolve(t.Context(), x, ref(t, "1"))
			if e := upstreamError(t, err); !test.is(e) {
				t.Error(err)
			}
			undo()
			if _, err := r.Resolve(t.Context(), x, ref(t, "1")); err != nil {
				t.Errorf("once it is over: %v", err)
			}
		})
	}
}

func answer(body string) remotetest.Fault {
	return remotetest.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		_, _ = io.WriteString(w, body)
		return true
	})
}

func TestPingThatFailsIsNotRemembered(t *testing.T) {
	u := remotetest.New(t)
	u.AddImage("x", "1")
	r, x := open(t, u.URL()), repo(t, "x")
	undo := u.Fault("GET /v2/", remotetest.Status(503))
	_, err := r.Resolve(t.Context(), x, ref(t, "1"))
	if e := upstreamError(t, err); !e.Outage() || e.Status != 503 {
		t.Error(err)
	}
	undo()
	if _, err := r.Resolve(t.Context(), x, ref(t, "1")); err != nil {
		t.Error(err)
	}
}
