package doctor_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/cmd/weir/doctor"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// layerSize is that of the layer which is pulled.
const layerSize = 64 << 10

// mirror is a server that has docker.io/library/app:1, an index for one platform, and
// that says of registries other than docker.io that it does not serve them.
type mirror struct {
	*remotetest.Upstream
	index v1.Descriptor
	child remotetest.Image
}

func newMirror(t *testing.T) *mirror {
	m := &mirror{Upstream: remotetest.New(t)}
	m.child = m.AddImage("library/app", "", origintest.Bytes(1, layerSize))
	d := m.child.Descriptor
	d.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	m.index = m.AddIndex("library/app", "1", d)
	return m
}

// served makes it look at ns.
func (m *mirror) served() {
	m.Fault("ns=weir-doctor.invalid", remotetest.Status(http.StatusNotFound))
}

// nobody is logged in.
func nobody() login.Provider {
	return login.Static("", func() (string, error) { return "", nil })
}

func somebody() login.Provider {
	return login.Static("ci", func() (string, error) { return "secret", nil })
}

func image(t *testing.T, host, repo, tag string) doctor.Image {
	t.Helper()
	r, err := origin.ParseRepo(repo)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := origin.ParseTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	return doctor.Image{Host: host, Repo: r, Ref: ref}
}

func examine(t *testing.T, server *url.URL, i doctor.Image, who login.Provider, around func(http.RoundTripper) http.RoundTripper) *doctor.Report {
	t.Helper()
	out := egress.New(egress.Options{URL: server, Network: egress.Network{Around: around}})
	defer out.Close()
	r, err := doctor.Examine(t.Context(), doctor.Options{Server: server, Out: out, Login: who, Image: i})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// findings are the checks that did not go well: "containerd: tag: note".
func findings(r *doctor.Report) []string {
	var lines []string
	for _, c := range r.Clients {
		for _, check := range c.Checks {
			if check.State != doctor.OK {
				lines = append(lines, fmt.Sprintf("%s: %s: %s", c.Name, check.Name, check.State))
			}
		}
	}
	return lines
}

// prose is what is said of them.
func prose(r *doctor.Report, server string) string {
	var b strings.Builder
	for _, c := range r.Clients {
		for _, check := range c.Checks {
			if check.State != doctor.OK {
				fmt.Fprintf(&b, "%s: %s: %s\n  %s\n  %s\n  %s\n  %s\n", c.Name, check.Name, check.State, check.Request, check.Answer, check.Effect, check.Hint)
			}
		}
	}
	return strings.ReplaceAll(b.String(), server, "SERVER")
}

// A server that does all as clients want it is told so, whoever asks.
func TestNothingIsWrong(t *testing.T) {
	for name, test := range map[string]struct {
		arrange func(m *mirror)
		own     bool
		who     login.Provider
	}{
		"a mirror":                          {},
		"a registry":                        {own: true},
		"blobs elsewhere":                   {arrange: func(m *mirror) { m.CDN() }},
		"tokens for everybody":              {arrange: func(m *mirror) { m.Bearer(remotetest.Bearer{Own: true}) }},
		"tokens from elsewhere":             {arrange: func(m *mirror) { m.Bearer(remotetest.Bearer{AccessToken: true}) }},
		"a registry that knows its user":    {own: true, who: somebody(), arrange: func(m *mirror) { m.Basic("ci", "secret") }},
		"a registry that gives users token": {own: true, who: somebody(), arrange: func(m *mirror) { m.Bearer(remotetest.Bearer{Own: true, Username: "ci", Password: "secret"}) }},
		// No client looks at it: the answer to a Range is what counts.
		"no Accept-Ranges": {arrange: func(m *mirror) { m.Fault("/blobs/", remotetest.Header("Accept-Ranges", "")) }},
		"parameters of a type": {arrange: func(m *mirror) {
			m.Fault("/manifests/1", remotetest.Header("Content-Type", v1.MediaTypeImageIndex+"; charset=utf-8"))
		}},
		"signatures": {arrange: func(m *mirror) {
			m.AddReferrer("library/app", "application/x", m.index)
			m.AddImage("library/app", strings.Replace(m.index.Digest.String(), ":", "-", 1)+".sig", []byte("signature"))
		}},
		"pages of referrers": {arrange: func(m *mirror) {
			m.AddReferrer("library/app", "application/x", m.index)
			m.AddReferrer("library/app", "application/y", m.index)
			m.PageSize(1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			m.served()
			if test.arrange != nil {
				test.arrange(m)
			}
			host, who := "docker.io", test.who
			if test.own {
				host = ""
			}
			if who == nil {
				who = nobody()
			}
			r := examine(t, m.URL(), image(t, host, "library/app", "1"), who, nil)
			if got := findings(r); len(got) > 0 {
				t.Errorf("%s", prose(r, m.Host()))
			}
			if broken, all := r.Broken(); broken != 0 || all < 30 {
				t.Errorf("%d of %d", broken, all)
			}
		})
	}
}

// Of another registry than docker.io, too; but Docker's classic store has no mirror of it.
func TestOtherRegistries(t *testing.T) {
	m := newMirror(t)
	m.served()
	m.AddImage("org/app", "1", origintest.Bytes(1, layerSize))
	i := image(t, "quay.example:5000", "org/app", "1")
	r := examine(t, m.URL(), i, nobody(), nil)
	if got, want := findings(r), []string{"Docker with its classic image store: where it is: note"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	complete(t, r)
	if m.Count("/org/app/manifests/1?ns=quay.example%3A5000") < 2 || m.Count("GET /v2/quay.example_5000/org/app/manifests/1 404") != 2 {
		t.Errorf("%q", m.Requests())
	}

	// A server that has it by its whole name serves that, too.
	m.AddImage("quay.example_5000/org/app", "1", origintest.Bytes(1, layerSize))
	if got := findings(examine(t, m.URL(), i, nobody(), nil)); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

// The requests are those that the clients send.
func TestRequests(t *testing.T) {
	m := newMirror(t)
	m.served()
	examine(t, m.URL(), image(t, "docker.io", "app", "1"), nobody(), nil)
	index, child, config, layer := m.index.Digest.String(), m.child.Digest.String(), m.child.Config.Digest.String(), m.child.Layers[0].Digest.String()
	const repo, ns = " /v2/library/app/", "?ns=docker.io"
	resolver := func(more ...string) []string {
		return append([]string{
			"HEAD" + repo + "manifests/1" + ns + " 200",
			"GET" + repo + "manifests/" + index + ns + " 200",
			"GET" + repo + "manifests/" + child + ns + " 200",
			"GET" + repo + "blobs/" + config + ns + " 200",
			"GET" + repo + "blobs/" + layer + ns + " 200",
			"GET" + repo + "blobs/" + layer + ns + " bytes=32768- 206",
		}, more...)
	}
	absent := []string{
		"HEAD" + repo + "manifests/weir-doctor-asks-for-what-is-not-there" + ns + " 404",
		"HEAD" + repo + "manifests/1?ns=weir-doctor.invalid 404",
	}
	const below = " /v2/docker.io/library/app/"
	want := slices.Concat(
		[]string{"GET /v2/ 200"},
		resolver("GET"+repo+"blobs/"+layer+ns+" bytes=0- 206"), absent, []string{"GET" + repo + "referrers/" + index + ns + " 200"},
		resolver(), absent,
		[]string{
			"GET /v2/ 200",
			"HEAD" + repo + "manifests/1 200",
			"GET" + repo + "manifests/" + index + " 200",
			"GET" + repo + "manifests/" + child + " 200",
			"GET" + repo + "blobs/" + config + " 200",
			"GET" + repo + "blobs/" + layer + " 200",
			"GET" + repo + "blobs/" + layer + " bytes=32768- 206",
			"GET" + repo + "manifests/weir-doctor-asks-for-what-is-not-there 404",

			"GET /v2/ 200", "GET" + below + "manifests/1 404",
			"GET /v2/ 200", "GET" + repo + "manifests/1 200",
			"GET /v2/ 200",
			"GET" + repo + "manifests/1 200",
			"HEAD" + repo + "manifests/1 200",
			"GET" + repo + "manifests/" + index + " 200",
			"GET" + repo + "manifests/" + child + " 200",
			"GET" + repo + "blobs/" + config + " 200",
			"GET" + repo + "blobs/" + layer + " 200",
			"GET" + repo + "blobs/" + layer + " bytes=32768- 206",
			"GET" + repo + "manifests/" + strings.Replace(index, ":", "-", 1) + ".sig 404",
		},
	)
	if got := m.Requests(); !slices.Equal(got, want) {
		t.Errorf("requests:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, r := range m.Log() {
		if r.Method == http.MethodHead && strings.Contains(r.URI, "ns=docker.io") && !strings.HasSuffix(r.Header.Get("Accept"), ", */*") {
			t.Errorf("%s accepts %q", r, r.Header.Get("Accept"))
		}
		if r.Header.Get("Authorization") != "" {
			t.Errorf("%s: a login of nobody", r)
		}
	}
}

// A mirror is shown no login by Docker, and nobody else's token server is.
func TestLoginStays(t *testing.T) {
	m := newMirror(t)
	m.served()
	m.Bearer(remotetest.Bearer{Username: "ci", Password: "secret"}) // on another port
	examine(t, m.URL(), image(t, "docker.io", "library/app", "1"), somebody(), nil)
	examine(t, m.URL(), image(t, "", "library/app", "1"), somebody(), nil)
	tokens := 0
	for _, r := range m.Log() {
		if r.Server == "token" {
			tokens++
		}
		if strings.HasPrefix(r.Header.Get("Authorization"), "Basic") || strings.Contains(r.URI, "account=") {
			t.Errorf("%s: the login is shown", r)
		}
	}
	if tokens == 0 {
		t.Error("nobody asked for a token")
	}

	m = newMirror(t)
	m.served()
	m.Bearer(remotetest.Bearer{Own: true, Username: "ci", Password: "secret"})
	r := examine(t, m.URL(), image(t, "docker.io", "library/app", "1"), somebody(), nil)
	want := []string{
		"containerd: login: note",
		"Docker with the containerd image store: tag: would break",
		"Docker with its classic image store: tag: would break",
	}
	if got := findings(r); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// elsewhere sends what is for another host to the one that there is.
type elsewhere struct {
	http.RoundTripper
	host string
}

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = e.host
	return e.RoundTripper.RoundTrip(r)
}

// Plain HTTP is nothing to speak of on this machine alone.
func TestPlain(t *testing.T) {
	m := newMirror(t)
	at := &url.URL{Scheme: "http", Host: "mirror.example"}
	r := examine(t, at, image(t, "mirror.example", "library/app", "1"), nobody(), func(next http.RoundTripper) http.RoundTripper {
		return elsewhere{next, m.Host()}
	})
	if got, want := findings(r), []string{"every client: encryption: note"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	complete(t, r)
	if r.Image != "library/app:1" {
		t.Errorf("an image of the server's own is %s", r.Image)
	}
}

// A server that does not answer is an error, and so is an end of the caller's patience.
func TestNoServer(t *testing.T) {
	m := newMirror(t)
	out := egress.New(egress.Options{URL: m.URL()})
	o := doctor.Options{Server: m.URL(), Out: out, Login: nobody(), Image: image(t, "", "library/app", "1")}
	ctx, cancel := context.WithCancel(t.Context())
	m.Fault("/blobs/", func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			cancel()
			next.ServeHTTP(w, r)
		})
	})
	if _, err := doctor.Examine(ctx, o); err == nil || ctx.Err() == nil {
		t.Errorf("cancelled: %v", err)
	}
	m.Refuse()
	if _, err := doctor.Examine(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no answer from "+m.URL().String()) {
		t.Errorf("%v", err)
	}
}

// go-containerregistry's registry is what it is: an image that nobody names is found
// by its catalog.
func TestAnotherRegistry(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if r := examine(t, at, doctor.Image{}, nobody(), nil); !r.Chosen || r.Image != "docker.io/library/hello-world:latest" {
		t.Errorf("an empty registry was asked for %s", r.Image)
	}
	img, err := random.Image(4<<10, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"a", "latest"} {
		ref, err := name.ParseReference(at.Host + "/team/app:" + tag)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img); err != nil {
			t.Fatal(err)
		}
	}
	r := examine(t, at, doctor.Image{}, nobody(), nil)
	if !r.Chosen || r.Image != "team/app:latest" {
		t.Errorf("%s was asked for", r.Image)
	}
	// It knows ranges with an end alone, and no client sends one.
	want := []string{
		"containerd: rest of a layer: would break",
		"Docker with the containerd image store: rest of a layer: would break",
		"Docker with its classic image store: rest of a layer: would break",
		"podman and CRI-O: rest of a layer: would break",
	}
	if got := findings(r); !slices.Equal(got, want) {
		t.Errorf("%s", prose(r, at.Host))
	}
}
