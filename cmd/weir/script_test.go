package main

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"weir": main})
}

// TestScripts runs the stories of testdata/script with the real command. In them,
// answer STATUS FILE starts a server that gives the file to whoever explains an
// image, and puts its address into $SERVER; mirror starts a weir there, and an upstream
// with images; asked N WORDS wants that N of the requests that the upstream took
// contain the words, and forget forgets those that it took so far.
func TestScripts(t *testing.T) {
	var upstreams sync.Map // by script
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"answer": answerExplain,
			"mirror": func(ts *testscript.TestScript, _ bool, _ []string) { upstreams.Store(ts, mirrorImages(t, ts)) },
			"asked": func(ts *testscript.TestScript, neg bool, args []string) {
				if u, ok := upstreams.Load(ts); ok && !neg && len(args) > 0 {
					askedUpstream(ts, u.(*remotetest.Upstream), args)
				} else {
					ts.Fatalf("usage: mirror, then asked N WORDS")
				}
			},
			"forget": func(ts *testscript.TestScript, _ bool, _ []string) {
				if u, ok := upstreams.Load(ts); ok {
					u.(*remotetest.Upstream).Take()
				}
			},
		},
	})
}

// mirrorImages starts an upstream, docker.io, with library/app:1, an index for two
// platforms and an attestation, and library/tool:1, an image; and a weir.
func mirrorImages(t *testing.T, ts *testscript.TestScript) *remotetest.Upstream {
	u := remotetest.New(t)
	var index []v1.Descriptor
	for i, platform := range []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}, {OS: "unknown", Architecture: "unknown"}} {
		img := u.AddImage("library/app", "", origintest.Bytes(uint64(i), 100<<10*(1+i)))
		img.Platform = &platform
		index = append(index, img.Descriptor)
	}
	u.AddIndex("library/app", "1", index...)
	u.AddImage("library/tool", "1", origintest.Bytes(7, 30<<10), origintest.Bytes(8, 300<<10))
	ts.Setenv("SERVER", start(t, "", hub(u, "  default: docker.io\n")).url)
	return u
}

func askedUpstream(ts *testscript.TestScript, u *remotetest.Upstream, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	words, lines := strings.Join(args[1:], " "), u.Requests()
	var got int
	for _, line := range lines {
		if strings.Contains(line, words) {
			got++
		}
	}
	if got != want {
		ts.Fatalf("the upstream took %d requests with %q, not %d:\n%s", got, words, want, strings.Join(lines, "\n"))
	}
}

func answerExplain(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: answer STATUS FILE")
	}
	status := map[string]int{"200": http.StatusOK, "404": http.StatusNotFound, "502": http.StatusBadGateway}[args[0]]
	body := ts.ReadFile(args[1])
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/v2/_ext/explain" || r.URL.Query().Get("image") == "" {
			http.Error(w, "not what explain asks", http.StatusTeapot)
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // the script sees what is missing
	}))
	ts.Defer(server.Close)
	ts.Setenv("SERVER", server.URL)
}
