//go:build deploy

package deploy

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/weir-registry/weir/authz/mtls/mtlstest"
)

// guides are what people read.
var guides = []string{"README.md", "../mirror/README.md", "../origin/README.md", "../authz/README.md"}

// A block is one that stands between fences in a guide.
type block struct {
	section string // the heading that it is below
	line    int
	info    string // what follows the opening fence
	text    string
}

// The infos that blocks of guides have.
const (
	inShell  = "sh"            // typed
	inShell2 = "sh background" // typed in another terminal, in place of what runs there: weir
	notHere  = "sh online"     // needs more than a test has; but weir is stopped and started where it is said
	inFile   = "yaml "         // with a name: written there
)

// blocks gives what stands between the fences of a guide.
func blocks(text string) (all []block) {
	var section, fence string
	for i, line := range strings.Split(text, "\n") {
		info, fenced := strings.CutPrefix(line, "```")
		switch {
		case fenced && fence == "":
			fence = "```"
			all = append(all, block{section: section, line: i + 1, info: info})
		case fenced:
			fence = ""
		case fence != "":
			all[len(all)-1].text += line + "\n"
		case strings.HasPrefix(line, "## "):
			section = strings.TrimPrefix(line, "## ")
		}
	}
	return all
}

// TestGuides types what the guides have people type, each section on a machine on which nothing
// has happened yet but what a team has: clients, a certificate, registries that answer, and a
// docker-registry's files.
func TestGuides(t *testing.T) {
	old := distributionStorage(t)
	for _, guide := range guides {
		all := blocks(read(t, guide))
		var sections []string
		typed := 0
		for _, b := range all {
			switch {
			case b.info == inShell, b.info == inShell2:
				typed++
			case b.info == notHere:
				run(t, nil, "bash", "-n", "-c", b.text)
			case strings.HasPrefix(b.info, inFile):
			default:
				t.Errorf("%s:%d: nobody knows what %q means", guide, b.line, b.info)
			}
			if !slices.Contains(sections, b.section) {
				sections = append(sections, b.section)
			}
		}
		if typed == 0 {
			t.Errorf("%s: nothing of it is typed", guide)
		}
		for _, section := range sections {
			t.Run(filepath.Join(filepath.Base(filepath.Dir(abs(t, guide))), section), func(t *testing.T) {
				r := newReader(t, old)
				for _, b := range all {
					if b.section == section {
						t.Logf("%s:%d: %s", guide, b.line, b.info)
						r.does(b)
					}
				}
			})
		}
	}
}

// reader is somebody who does what a guide says.
type reader struct {
	t    *testing.T
	dir  string // where they are
	env  []string
	weir *server // in the other terminal
	line string  // that it was started by
}

func newReader(t *testing.T, old string) *reader {
	for _, dir := range []string{"/etc/weir", "/etc/containerd", "/etc/docker", "/etc/containers/registries.conf", "/var/lib/weir", "/var/lib/weir.old", "/var/lib/registry", "/srv/backup", "/srv/other"} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	hub, _ := someRegistry(t, "library/alpine:3.20")
	n := newInternet(t, map[string]http.Handler{"registry-1.docker.io": hub})
	shown := mtlstest.Server()
	shown.DNSNames = []string{"weir.corp.example"}
	pair := n.authority.Issue(t, shown)
	write(t, "/etc/weir/tls.crt", string(pair.CertificatePEM()))
	write(t, "/etc/weir/tls.key", string(pair.KeyPEM(t)))
	run(t, nil, "cp", "-a", old, "/var/lib/registry")
	r := &reader{t: t, dir: t.TempDir()}
	run(t, nil, "cp", "-r", "examples", r.dir)
	home := t.TempDir()
	r.env = append(n.env(), "HOME="+home, "DOCKER_CONFIG="+home+"/.docker",
		"PATH="+strings.Join([]string{filepath.Dir(binary(t)), filepath.Dir(tool(t, "crane")), os.Getenv("PATH")}, ":"))
	return r
}

// does what one block says.
func (r *reader) does(b block) {
	r.t.Helper()
	switch file, ok := strings.CutPrefix(b.info, inFile); {
	case ok:
		write(r.t, filepath.Join(r.dir, file), b.text)
	case b.info == inShell:
		cmd := exec.CommandContext(r.t.Context(), "bash", "-euxo", "pipefail", "-c", b.text)
		cmd.Dir, cmd.Env = r.dir, append(os.Environ(), r.env...)
		cmd.Stdin = strings.NewReader("secret\n") // for who asks for a password
		if out, err := cmd.CombinedOutput(); err != nil {
			r.t.Fatalf("line %d: %v\n%s", b.line, err, out)
		}
	case b.info == inShell2:
		r.stops()
		r.line = b.text
		r.starts()
	case b.info == notHere: // but for what is said of weir
		for line := range strings.Lines(b.text) {
			switch line {
			case "systemctl stop weir\n":
				r.stops()
			case "systemctl start weir\n":
				// cp -a puts a directory into one that is there.
				if _, err := os.Stat("/var/lib/weir/weir"); err == nil {
					r.t.Errorf("line %d: the store has become another one's directory", b.line)
				}
				r.starts()
			}
		}
	}
}

func (r *reader) stops() {
	r.t.Helper()
	if r.weir != nil {
		r.weir.stop()
	}
	r.weir = nil
}

func (r *reader) starts() {
	r.t.Helper()
	if r.line == "" {
		r.t.Fatal("nobody has said how weir is started")
	}
	r.weir = serve(r.t, "weir", r.env, "bash", "-c", `cd "$0" && exec `+r.line, r.dir)
	r.weir.until(ready("http://127.0.0.1:5001/readyz"))
}

// distributionStorage gives the directory in which Debian's docker-registry keeps team/app:v1.
func distributionStorage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	const at = "127.0.0.1:5002"
	config := write(t, filepath.Join(dir, "config.yml"), "version: 0.1\nstorage: {filesystem: {rootdirectory: "+dir+"/registry}}\nhttp: {addr: '"+at+"'}\n")
	s := serve(t, "docker-registry", nil, "docker-registry", "serve", config)
	s.until(ready("http://" + at + "/v2/"))
	ref, err := name.ParseReference(at + "/team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, newImage(t)); err != nil {
		t.Fatal(err)
	}
	s.kill()
	return filepath.Join(dir, "registry")
}

// TestLinks: what a guide leads to is there, and so is the heading.
func TestLinks(t *testing.T) {
	for _, guide := range append(slices.Clone(guides), "../README.md") {
		for _, m := range regexp.MustCompile(`\]\(([^)#:]*)(#[^)]*)?\)`).FindAllStringSubmatch(read(t, guide), -1) {
			target := guide
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(guide), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s leads to %s, which is not there", guide, m[1])
				continue
			}
			if m[2] != "" && !slices.Contains(headings(read(t, target)), m[2]) {
				t.Errorf("%s leads to %s%s: there is no such heading", guide, m[1], m[2])
			}
		}
	}
}

// headings gives the links to a page's headings.
func headings(text string) (all []string) {
	odd := regexp.MustCompile(`[^a-z0-9 _-]`)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if title, ok := strings.CutPrefix(strings.TrimLeft(lines.Text(), "#"), " "); ok && strings.HasPrefix(lines.Text(), "#") {
			all = append(all, "#"+strings.ReplaceAll(odd.ReplaceAllString(strings.ToLower(title), ""), " ", "-"))
		}
	}
	return all
}

func TestBlocks(t *testing.T) {
	got := blocks("# a\n```sh\none\ntwo\n```\n## b\ntext\n```yaml x.yaml\nk: v\n```\n")
	want := []block{{"", 2, "sh", "one\ntwo\n"}, {"b", 8, "yaml x.yaml", "k: v\n"}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func abs(t *testing.T, name string) string {
	t.Helper()
	name, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return name
}
