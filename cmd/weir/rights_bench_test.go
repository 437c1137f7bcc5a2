package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/origintest"
)

// BenchmarkManifest is what a pull of a manifest costs in this process, by nobody where
// there are no rules, and by somebody with a token where fifty are.
func BenchmarkManifest(b *testing.B) {
	rules := make([]string, 50)
	for i := range rules {
		rules[i] = fmt.Sprintf("\"identity.id == 'basic:team%d' && request.repository.startsWith('team%[1]d/') && request.tag != 'x'\"", i)
	}
	rules[49] = `"identity.id == 'basic:ci'"`
	authz := fmt.Sprintf("authz: {basic: {users: [{name: ci, hash: '%s'}]}, policy: {allow: [%s]}}\n", basic.NewHash("secret").Text(), strings.Join(rules, ", "))
	for _, x := range []struct {
		name, authz string
		login       bool
	}{{"nobody", "", false}, {"token", authz, true}} {
		b.Run(x.name, func(b *testing.B) {
			root := b.TempDir()
			file := filepath.Join(b.TempDir(), "weir.yaml")
			if err := os.WriteFile(file, []byte("store: {blobs: {filesystem: {root: '"+root+"'}}}\nmirror: {well_known: false}\n"+x.authz), 0o600); err != nil {
				b.Fatal(err)
			}
			c, err := config.Load([]string{file}, os.LookupEnv)
			if err != nil {
				b.Fatal(err)
			}
			app, err := compose(c, newLogs(io.Discard, c.Log))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = app.close(b.Context()) }()
			origintest.Image([]byte(`{}`)).Push(b, app.registry, "app", "v1")
			header := http.Header{}
			if x.login {
				header.Set("Authorization", "Bearer "+tokenOf(b, app.public))
			}
			r := httptest.NewRequest(http.MethodGet, "/v2/app/manifests/v1", nil)
			r.RemoteAddr, r.Host, r.Header = "127.0.0.1:4000", "127.0.0.1", header
			w := &discarded{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				w.bytes = 0
				app.public.ServeHTTP(w, r)
				if w.status != 0 || w.bytes == 0 {
					b.Fatal(w.status)
				}
			}
		})
	}
}

// tokenOf gives the token that a login gets.
func tokenOf(b *testing.B, h http.Handler) string {
	r := httptest.NewRequest(http.MethodGet, "/token?scope="+url.QueryEscape("repository:app:pull,push"), nil)
	r.SetBasicAuth("ci", "secret")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var said struct{ Token string }
	if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || said.Token == "" {
		b.Fatal(w.Code, w.Body)
	}
	return said.Token
}

// discarded is an answer that nobody reads.
type discarded struct {
	header        http.Header
	status, bytes int
}

func (d *discarded) Header() http.Header    { return d.header }
func (d *discarded) WriteHeader(status int) { d.status = status }

func (d *discarded) Write(p []byte) (int, error) {
	d.bytes += len(p)
	return len(p), nil
}
