package doctor_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-registry/weir/cmd/weir/doctor"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// raw answers with bytes as they are.
func raw(head string, body []byte) remotetest.Fault {
	return remotetest.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = fmt.Fprintf(conn, "%s\r\n\r\n%s", strings.ReplaceAll(head, "\n", "\r\n"), body) // the client sees what is missing
		_ = conn.Close()
		return true
	})
}

// ranged lets a fault be felt by requests for ranges alone.
func ranged(f remotetest.Fault) remotetest.Fault {
	return func(next http.Handler) http.Handler {
		faulty := f(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				faulty.ServeHTTP(w, r)
			} else {
				next.ServeHTTP(w, r)
			}
		})
	}
}

// late is the error of a request that waited for too long.
type late struct{ http.RoundTripper }

type timeout struct{}

func (timeout) Error() string   { return "timeout awaiting response headers" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

func (l late) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, "/manifests/") {
		return nil, timeout{}
	}
	return l.RoundTripper.RoundTrip(r)
}

// Each fault of a server is found, and told as testdata/faults.txt has it. want is what
// must be among it.
func TestFaults(t *testing.T) {
	const (
		store, classic = "Docker with the containerd image store", "Docker with its classic image store"
		pods           = "podman and CRI-O"
		manifests      = "/manifests/"
	)
	status := func(code int, headers ...string) func(m *mirror) {
		return func(m *mirror) { m.Fault(manifests, remotetest.Status(code, headers...)) }
	}
	all := func(check, state string) []string {
		return []string{"containerd: " + check + ": " + state, store + ": " + check + ": " + state, classic + ": " + check + ": " + state, pods + ": " + check + ": " + state}
	}
	tag := append(all("tag", "would break")[:3], pods+": manifest by tag: would break")
	var got bytes.Buffer
	for _, test := range []struct {
		name    string
		arrange func(m *mirror)
		around  func(http.RoundTripper) http.RoundTripper
		want    []string
	}{
		{name: "no Docker-Content-Digest with HEAD", want: all("tag", "note"), arrange: func(m *mirror) {
			m.Fault("HEAD ", remotetest.Header("Docker-Content-Digest", ""))
		}},
		{name: "no Docker-Content-Digest at all", want: append(all("tag", "note")[:3], pods+": manifest by tag: note"), arrange: func(m *mirror) {
			m.Fault(manifests, remotetest.Header("Docker-Content-Digest", ""))
		}},
		{name: "Docker-Content-Digest of something else", want: []string{"containerd: manifest: would break", pods + ": manifest by tag: note"}, arrange: func(m *mirror) {
			m.Fault(manifests+"1", remotetest.WrongDigest())
		}},
		{name: "Docker-Content-Digest that is none", want: []string{"containerd: tag: would break"}, arrange: func(m *mirror) {
			m.Fault("HEAD ", remotetest.Header("Docker-Content-Digest", "latest"))
		}},
		{name: "HEAD is not allowed", want: all("tag", "note"), arrange: func(m *mirror) {
			m.Fault("HEAD ", remotetest.Status(http.StatusMethodNotAllowed))
		}},
		{name: "HEAD fails", want: []string{"containerd: tag: would break", classic + ": tag: note", pods + ": tag: note"}, arrange: func(m *mirror) {
			m.Fault("HEAD ", remotetest.Status(http.StatusInternalServerError))
		}},
		{name: "no Content-Length with HEAD", want: []string{"containerd: tag: note", classic + ": tag: would break"}, arrange: func(m *mirror) {
			m.Fault("HEAD ", remotetest.NoLength())
		}},
		{name: "a manifest that is too large", want: all("tag", "would break")[:3], arrange: func(m *mirror) {
			m.Fault("HEAD ", remotetest.LengthBy(5<<20))
		}},
		{name: "another type", want: tag, arrange: func(m *mirror) { m.Fault(manifests, remotetest.Header("Content-Type", "application/json")) }},
		{name: "no type", want: tag, arrange: func(m *mirror) { m.Fault(manifests, remotetest.Header("Content-Type", "")) }},
		{name: "a web page for everything", want: tag, arrange: func(m *mirror) { m.Fault("/v2/", remotetest.HTML()) }},
		{name: "404 for what it should have", want: tag, arrange: status(http.StatusNotFound)},
		{name: "403", want: tag, arrange: status(http.StatusForbidden)},
		{name: "429", want: tag, arrange: status(http.StatusTooManyRequests, "Retry-After", "3600")},
		{name: "500", want: tag, arrange: status(http.StatusInternalServerError)},
		{name: "503", want: tag, arrange: status(http.StatusServiceUnavailable)},
		{name: "418", want: tag, arrange: status(http.StatusTeapot)},
		{name: "300", want: tag, arrange: status(http.StatusMultipleChoices)},
		{name: "a redirect to nowhere", want: tag, arrange: status(http.StatusFound)},
		{name: "an error page", want: tag, arrange: func(m *mirror) {
			m.Fault(manifests, raw("HTTP/1.1 502 Bad Gateway\nContent-Type: text/html\nConnection: close", []byte("<html>nginx</html>")))
		}},
		{name: "an error without a reason", want: tag, arrange: func(m *mirror) {
			m.Fault(manifests, raw("HTTP/1.1 502 Bad Gateway\nConnection: close", []byte("upstream")))
		}},
		{name: "garbage", want: tag, arrange: func(m *mirror) { m.Fault(manifests, remotetest.Garbage()) }},
		{name: "nothing for 30 s", want: tag, around: func(r http.RoundTripper) http.RoundTripper { return late{r} }},

		{name: "401 without a challenge", want: []string{"containerd: tag: would break", classic + ": ping: would break", pods + ": ping: would break"}, arrange: func(m *mirror) {
			m.Fault("/v2/", remotetest.Status(http.StatusUnauthorized))
		}},
		{name: "a challenge that clients do not know", want: []string{"containerd: tag: would break", classic + ": ping: would break"}, arrange: func(m *mirror) {
			m.Fault("/v2/", remotetest.Status(http.StatusUnauthorized, "WWW-Authenticate", "Negotiate"))
		}},
		{name: "a challenge for manifests alone", want: []string{"containerd: login: would break", classic + ": tag: would break"}, arrange: status(http.StatusUnauthorized, "WWW-Authenticate", `Basic realm="x"`)},
		{name: "a realm that nobody reaches", want: all("token", "would break"), arrange: func(m *mirror) {
			m.Bearer(remotetest.Bearer{Realm: "http://127.0.0.1:1/token"})
		}},
		{name: "a realm that is none", want: all("token", "would break"), arrange: func(m *mirror) { m.Bearer(remotetest.Bearer{Realm: "ftp://registry"}) }},
		{name: "a token server that is a web page", want: all("token", "would break"), arrange: func(m *mirror) {
			m.Bearer(remotetest.Bearer{Own: true})
			m.Fault("/token", remotetest.HTML())
		}},
		{name: "a token server without a token", want: all("token", "would break"), arrange: func(m *mirror) {
			m.Bearer(remotetest.Bearer{Own: true})
			m.Fault("/token", raw("HTTP/1.1 200 OK\nConnection: close", []byte("{}")))
		}},
		{name: "a token server that refuses", want: all("token", "would break"), arrange: func(m *mirror) {
			m.Bearer(remotetest.Bearer{Own: true})
			m.Fault("/token", remotetest.Status(http.StatusForbidden))
		}},
		{name: "tokens that are good for nothing", want: tag, arrange: func(m *mirror) { m.Bearer(remotetest.Bearer{Own: true, Username: "ci", Password: "secret"}) }},
		{name: "users only", want: all("login", "would break"), arrange: func(m *mirror) { m.Basic("ci", "secret") }},
		{name: "GET /v2/ is 404", want: []string{classic + ": ping: note", pods + ": ping: would break"}, arrange: func(m *mirror) {
			m.Fault("GET /v2/", remotetest.Hook(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/v2/" {
					http.NotFound(w, r)
				}
				return r.URL.Path == "/v2/"
			}))
		}},

		{name: "a manifest of other bytes", want: all("manifest", "would break"), arrange: func(m *mirror) {
			m.Fault("GET /v2/library/app"+manifests+"sha256", remotetest.Flip(3))
		}},
		{name: "a manifest that is cut", want: all("manifest", "would break"), arrange: func(m *mirror) {
			m.Fault("GET /v2/library/app"+manifests+"sha256", remotetest.Cut(20))
		}},
		{name: "a manifest that is compressed", want: all("manifest", "note"), arrange: func(m *mirror) {
			m.Fault("GET /v2/library/app"+manifests, remotetest.Gzip())
		}},
		{name: "no manifest of the platform", want: all("manifest of a platform", "would break"), arrange: func(m *mirror) {
			m.Remove("library/app", m.child.Digest.String())
		}},

		{name: "no config", want: all("config", "would break"), arrange: func(m *mirror) { m.Remove("library/app", m.child.Config.Digest.String()) }},
		{name: "a layer that is cut", want: all("layer", "would break"), arrange: func(m *mirror) {
			m.Fault(m.child.Layers[0].Digest.String(), remotetest.Cut(1000))
		}},
		{name: "a layer of other bytes", want: all("layer", "would break"), arrange: func(m *mirror) {
			m.Fault(m.child.Layers[0].Digest.String(), remotetest.Flip(layerSize/2))
		}},
		{name: "a layer that is too short", want: all("layer", "would break"), arrange: func(m *mirror) {
			m.Fault(m.child.Layers[0].Digest.String(), remotetest.LengthBy(-1))
		}},
		{name: "a layer that is too long", want: all("layer", "would break"), arrange: func(m *mirror) {
			m.Fault(m.child.Layers[0].Digest.String(), raw("HTTP/1.1 200 OK\nConnection: close", make([]byte, layerSize+9)))
		}},
		{name: "a layer that is compressed", want: all("layer", "note"), arrange: func(m *mirror) { m.Fault("/blobs/", remotetest.Gzip()) }},
		{name: "a layer in an encoding of its own", want: all("layer", "would break"), arrange: func(m *mirror) {
			m.Fault("/blobs/", remotetest.Header("Content-Encoding", "br"))
		}},
		{name: "a layer in zstd", want: append(all("layer", "note")[:2], all("layer", "would break")[2:]...), arrange: func(m *mirror) {
			m.Fault("/blobs/", remotetest.Header("Content-Encoding", "zstd"))
		}},
		{name: "no Content-Length of layers", want: all("layer", "note"), arrange: func(m *mirror) { m.Fault("/blobs/", remotetest.NoLength()) }},
		{name: "HTTP/1.0", want: append(all("layer", "note"), "every client: connection: note"), arrange: func(m *mirror) {
			m.Fault("/blobs/", remotetest.Hook(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, m.child.Layers[0].Digest.String()) || r.Header.Get("Range") != "" {
					return false
				}
				raw("HTTP/1.0 200 OK", origintest.Bytes(1, layerSize))(nil).ServeHTTP(w, r)
				return true
			}))
			m.Fault("GET /v2/", remotetest.Hook(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/v2/" {
					raw("HTTP/1.0 200 OK\nContent-Length: 0", nil)(nil).ServeHTTP(w, r)
				}
				return r.URL.Path == "/v2/"
			}))
		}},
		{name: "redirects in circles", want: all("config", "would break"), arrange: func(m *mirror) {
			m.Fault("/blobs/", remotetest.Redirect("/v2/library/app/blobs/again"))
		}},
		{name: "redirects to where nobody is", want: all("config", "would break"), arrange: func(m *mirror) {
			m.Fault("/blobs/", remotetest.Redirect("http://127.0.0.1:1/blob"))
		}},
		{name: "429 for blobs", want: all("config", "would break"), arrange: func(m *mirror) { m.Fault("/blobs/", remotetest.Status(http.StatusTooManyRequests)) }},

		{name: "ranges are ignored", want: []string{"containerd: rest of a layer: note", classic + ": rest of a layer: note", pods + ": rest of a layer: would break"}, arrange: func(m *mirror) {
			m.Fault("/blobs/", remotetest.NoRanges())
		}},
		{name: "ranges are refused", want: all("rest of a layer", "would break"), arrange: func(m *mirror) {
			m.Fault("/blobs/", ranged(remotetest.Status(http.StatusRequestedRangeNotSatisfiable)))
		}},
		{name: "ranges of the whole are refused", want: []string{"containerd: layer in parts: would break"}, arrange: func(m *mirror) {
			m.Fault("/blobs/", remotetest.Hook(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Range") == "bytes=0-" {
					w.WriteHeader(http.StatusInternalServerError)
				}
				return r.Header.Get("Range") == "bytes=0-"
			}))
		}},
		{name: "another range", want: all("rest of a layer", "would break"), arrange: func(m *mirror) { m.Fault("/blobs/", remotetest.AsRange("bytes=1-")) }},
		{name: "less of a range", want: []string{"containerd: rest of a layer: note", pods + ": rest of a layer: would break"}, arrange: func(m *mirror) {
			m.Fault("/blobs/", remotetest.AsRange(fmt.Sprintf("bytes=%d-%d", layerSize/2, layerSize-2)))
		}},
		{name: "a range of other bytes", want: all("rest of a layer", "would break"), arrange: func(m *mirror) { m.Fault("/blobs/", ranged(remotetest.Flip(0))) }},
		{name: "a range that is cut", want: all("rest of a layer", "would break"), arrange: func(m *mirror) { m.Fault("/blobs/", ranged(remotetest.Cut(9))) }},
		{name: "no Content-Range", want: all("rest of a layer", "would break"), arrange: func(m *mirror) {
			m.Fault("/blobs/", ranged(remotetest.Header("Content-Range", "")))
		}},

		{name: "500 for what is not there", want: all("tag that is not there", "note")[:3], arrange: func(m *mirror) {
			m.Fault("not-there", remotetest.Status(http.StatusInternalServerError))
		}},
		{name: "429 for what is not there", want: append(all("tag that is not there", "would break")[:3], pods+": signatures: would break"), arrange: func(m *mirror) {
			m.Fault("not-there", remotetest.Status(http.StatusTooManyRequests))
			m.Fault(".sig", remotetest.Status(http.StatusTooManyRequests))
		}},
		{name: "200 for what is not there", want: all("tag that is not there", "would break")[:3], arrange: func(m *mirror) {
			m.SetTag("library/app", "weir-doctor-asks-for-what-is-not-there", m.index.Digest)
		}},
		{name: "a web page for what is not there", want: []string{classic + ": tag that is not there: note"}, arrange: func(m *mirror) {
			m.Fault("not-there", raw("HTTP/1.1 404 Not Found\nContent-Type: text/html\nConnection: close", []byte("<html>nginx</html>")))
		}},
		{name: "no answer for what is not there", want: all("tag that is not there", "would break")[:3], arrange: func(m *mirror) {
			m.Fault("not-there", remotetest.Garbage())
		}},
		{name: "ns is not looked at", want: all("registry it does not serve", "note")[:2]},
		{name: "500 for an ns that it does not serve", want: all("registry it does not serve", "note")[:2], arrange: func(m *mirror) {
			m.Fault("ns=weir-doctor.invalid", remotetest.Status(http.StatusInternalServerError))
		}},
		{name: "429 for an ns that it does not serve", want: all("registry it does not serve", "would break")[:2], arrange: func(m *mirror) {
			m.Fault("ns=weir-doctor.invalid", remotetest.Status(http.StatusTooManyRequests))
		}},
		{name: "no answer for an ns that it does not serve", want: all("registry it does not serve", "would break")[:2], arrange: func(m *mirror) {
			m.Fault("ns=weir-doctor.invalid", remotetest.Garbage())
		}},
		{name: "no referrers API", want: []string{"containerd: referrers: note"}, arrange: func(m *mirror) { m.NoReferrersAPI() }},
		{name: "referrers fail", want: []string{"containerd: referrers: note"}, arrange: func(m *mirror) {
			m.Fault("/referrers/", remotetest.Status(http.StatusBadGateway))
		}},
		{name: "referrers are a web page", want: []string{"containerd: referrers: would break"}, arrange: func(m *mirror) { m.Fault("/referrers/", remotetest.HTML()) }},
		{name: "referrers go on elsewhere", want: []string{"containerd: referrers: note"}, arrange: func(m *mirror) {
			m.Fault("/referrers/", remotetest.Header("Link", `<http://internal:5000/v2/x>; rel="next"`))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMirror(t)
			if test.name != "ns is not looked at" {
				m.served()
			}
			if test.arrange != nil {
				test.arrange(m)
			}
			r := examine(t, m.URL(), image(t, "docker.io", "library/app", "1"), nobody(), test.around)
			for _, want := range test.want {
				if !slices.Contains(findings(r), want) {
					t.Errorf("%q is not found in\n%s", want, strings.Join(findings(r), "\n"))
				}
			}
			complete(t, r)
			fmt.Fprintf(&got, "# %s\n%s\n", test.name, prose(r, m.Host()))
		})
	}
	golden(t, "faults.txt", got.Bytes())
}

// complete checks that who reads a finding knows what to do.
func complete(t *testing.T, r *doctor.Report) {
	t.Helper()
	for _, c := range r.Clients {
		for _, check := range c.Checks {
			if check.State != doctor.OK && (check.Answer == "" || check.Effect == "" || check.Hint == "") {
				t.Errorf("%s: %+v says too little", c.Name, check)
			}
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what was got; read the difference after -update", file)
	}
}
