package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"weir": main})
}

// TestScripts runs the stories of testdata/script with the real command. In them,
// answer STATUS FILE starts a server that gives the file to whoever explains an
// image, and puts its address into $SERVER.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"answer": answerExplain},
	})
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
