package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/authz/mtls/mtlstest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// reloading is a weir whose configuration is a file that changes.
type reloading struct {
	*running
	head string // what every configuration of it begins with
}

// startReloading runs weir with that configuration, which says nothing of log, admin and
// store.
func startReloading(t *testing.T, text string) *reloading {
	t.Helper()
	data := t.TempDir()
	head := "log: {format: json}\nadmin: {listen: '127.0.0.1:0'}\nstore: {blobs: {filesystem: {root: '" + data + "'}}}\n"
	r := &reloading{running: startText(t, data, head+text), head: head}
	return r
}

// write has another configuration in the file, and waits until it has been read, with that
// result.
func (r *reloading) write(text, result string) {
	r.t.Helper()
	before := r.reloads(result)
	r.put(r.head + text)
	eventually(r.t, "the configuration is "+result, func() bool { return r.reloads(result) > before })
}

// put writes the file as an editor does: another one, of the same name.
func (r *reloading) put(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.config+".new", []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(r.config+".new", r.config); err != nil {
		r.t.Fatal(err)
	}
}

// reloads gives how often there was a result.
func (r *reloading) reloads(result string) int {
	return r.count(`weir_config_reloads_total{result="` + result + `"}`)
}

// A policy is replaced; a mistake is refused with its place, and so is an empty file; what
// needs a restart is named, and the rest applied.
func TestReload(t *testing.T) {
	u := remotetest.New(t)
	u.AddImage("library/nginx", "1.27", []byte("layer"))
	const server = "server: {listen: '127.0.0.1:0'}\n"
	mirror := "mirror:\n  well_known: false\n" + hub(u, "")
	r := startReloading(t, server+mirror)
	asked := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	asked()
	eventually(t, "it is said that nothing has changed", func() bool { return r.reloads("unchanged") == 1 })
	path := "/v2/docker.io/library/nginx/manifests/1.27"
	want := func(status int) {
		t.Helper()
		if a := r.get(path); a.status != status {
			t.Errorf("pull: %d %s, want %d", a.status, a.body, status)
		}
	}
	want(http.StatusOK)
	r.write(server+mirror+"authz: {policy: {default: deny}}\n", "applied")
	want(http.StatusForbidden)
	r.write(server+mirror+"authz:\n  policy: {default: deny, alow: [\"true\"]}\n", "rejected")
	want(http.StatusForbidden)
	entry, err := r.log.entry(t.Context(), "configuration rejected: the last good one goes on")
	if err != nil {
		t.Fatal(err)
	}
	if said, _ := entry["error"].(string); !strings.HasPrefix(said, r.config+":") || !strings.Contains(said, `did you mean "allow"?`) {
		t.Errorf("it says %v", entry)
	}
	rejected := r.reloads("rejected")
	r.put("\n")
	eventually(t, "an empty file is rejected", func() bool { return r.reloads("rejected") > rejected })
	want(http.StatusForbidden)
	r.write("server: {listen: '127.0.0.1:1'}\n"+mirror, "applied")
	if _, err := r.log.entry(t.Context(), "server.listen needs a restart"); err != nil {
		t.Fatal(err)
	}
	want(http.StatusOK)
	// What it names comes after it.
	users := filepath.Join(t.TempDir(), "htpasswd")
	r.write(server+mirror+"authz: {basic: {htpasswd: '"+users+"'}}\n", "rejected")
	applied := r.reloads("applied")
	mtlstest.Put(t, users, []byte("ann:"+basic.NewHash("pw").Text()+"\n"))
	eventually(t, "with its file it is applied", func() bool { return r.reloads("applied") > applied })
	if n := r.reloads("unchanged"); n != 1 {
		t.Errorf("unchanged %d times, want 1: of those that were asked for", n)
	}
}

// Whoever asks for a reload is told what came of it, though nothing has changed; a file that
// was saved again with the same in it is nothing that counts.
func TestReloadOfTheSame(t *testing.T) {
	w := newKeyWorld(t)
	w.begin("")
	counted := func() string {
		rw := httptest.NewRecorder()
		w.admin().ServeHTTP(rw, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		var got []string
		for _, result := range []string{"applied", "rejected", "unchanged"} {
			_, n, _ := strings.Cut(rw.Body.String(), `weir_config_reloads_total{result="`+result+`"} `)
			n, _, _ = strings.Cut(n, "\n")
			got = append(got, n+" "+result)
		}
		return strings.Join(got, ", ")
	}
	text, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		what string
		text string
		asks bool
		want string
	}{
		{"asked for", string(text), true, "0 applied, 0 rejected, 1 unchanged"},
		{"saved again", string(text), false, "0 applied, 0 rejected, 1 unchanged"},
		{"changed", "ui: {title: depot}\n", false, "1 applied, 0 rejected, 1 unchanged"},
		{"saved again after that", "ui: {title: depot}\n", false, "1 applied, 0 rejected, 1 unchanged"},
		{"asked for after that", "ui: {title: depot}\n", true, "1 applied, 0 rejected, 2 unchanged"},
	} {
		mtlstest.Put(t, w.file, []byte(x.text))
		w.reload(x.asks)
		if got := counted(); got != x.want {
			t.Errorf("%s: %s, want %s", x.what, got, x.want)
		}
	}
}

// What is written while weir starts is applied: the file had been read, and nobody watched
// it yet; so had a file that it names.
func TestReloadOfWhatChangedMeanwhile(t *testing.T) {
	for name, change := range map[string]func(config, users string) (string, []byte){
		"the configuration": func(config, _ string) (string, []byte) {
			return config, []byte("authz: {policy: {default: deny}}\n")
		},
		"a file that it names": func(_, users string) (string, []byte) {
			return users, []byte("eve:" + basic.NewHash("pw").Text() + "\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file, users := filepath.Join(dir, "weir.yaml"), filepath.Join(dir, "htpasswd")
			text := "log: {format: json}\nserver: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\n" +
				"store: {blobs: {filesystem: {root: '" + filepath.Join(dir, "data") + "'}}}\nmirror: {well_known: false}\n"
			mtlstest.Put(t, users, []byte("ann:"+basic.NewHash("pw").Text()+"\n"))
			mtlstest.Put(t, file, []byte(text+"authz: {basic: {htpasswd: '"+users+"'}}\n"))
			from := configuration{files: []string{file}}
			c, err := from.load()
			if err != nil {
				t.Fatal(err)
			}
			changed, as := change(file, users)
			if changed == file {
				as = append([]byte(text), as...)
			}
			mtlstest.Put(t, changed, as)
			r := &reloading{running: startLoaded(t, dir, c, from)}
			eventually(t, "it is applied", func() bool { return r.reloads("applied") > 0 })
		})
	}
}
