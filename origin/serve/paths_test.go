package serve_test

import (
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store/disk"
)

// hostile gives strings that mean something to a file system, a proxy, a log or a
// decoder, and nothing to a registry.
func hostile() iter.Seq[string] {
	return func(yield func(string) bool) {
		more := true
		give := func(s string) { more = more && yield(s) }
		dots := []string{"..", ".", "...", "%2e%2e", ".%2e", "%2E%2E", "%252e%252e", "%c0%ae%c0%ae", "%u002e%u002e", "%ef%bc%8e%ef%bc%8e"}
		seps := []string{"/", "//", "/./", `\`, "%2f", "%2F", "%5c", "%252f", "%c0%af", "%e0%80%af", ";/", "%00/", "%0d%0a/"}
		ends := []string{"etc/passwd", "canary", "", ".lock", "a%00.json"}
		for _, dot := range dots {
			for _, sep := range seps {
				for _, end := range ends {
					for _, depth := range []int{1, 2, 7} {
						up := strings.Repeat(dot+sep, depth)
						give(up + end)
						give("a" + sep + up + end)
					}
				}
			}
		}
		for _, c := range []string{"%00", "%0a", "%0d%0aX-Evil:%201", "%09", "%20", "%7f", "%ff", "%c3%28", "%e2%80%ae", "%f0%9f%92%a9", "~", "$(id)", "`id`", "|", "*", "{x}", "<b>", "'", "@", "+", "!"} {
			give(c)
			give("a" + c)
			give("a" + c + "b")
			give(c + "/a")
			give("a/" + c)
		}
		for _, n := range []int{256, 257, 1000, 4096, 65536} {
			give(strings.Repeat("a", n))
			give(strings.Repeat("a/", n/2) + "a")
			give(strings.Repeat("../", n/3))
		}
		hex := strings.Repeat("a", 64)
		for _, digest := range []string{
			"sha256:", "sha256:..", "sha256:../" + hex, "sha256:" + hex[1:], "sha256:" + hex + "a", "sha512:" + hex, "SHA256:" + hex, "sha256:" + strings.ToUpper(hex),
			"sha256:sha256:" + hex, "sha256::" + hex, ":" + hex, "md5:" + hex[:32], "sha256:" + hex + "/..", "sha256:" + hex + "%00", "sha256:" + hex + ".json", "sha256%3a" + hex,
			"sha256:" + hex[:62] + "..", "sha256:" + hex[:61] + "/..", "sha256+b64u:" + hex, "multihash+base58:" + hex, "sha256:" + hex + "%2f..%2f..", "sha384:" + hex + hex[:32],
		} {
			give(digest)
			give(digest + "/")
			give("/" + digest)
			give("../" + digest)
		}
		for _, name := range []string{"", "/", "-", "_", ".a", "a.", "a..b", "a__", "__a", "a___b", "A", "a/B", "a//b", "a/", "/a", "a/-b", "a.-b", "_ext", "_catalog", ".git", "CON", "nul.", "a:b", "a@b", "C:", "C:/x", "//host/share", "file:///etc/passwd", "http://x/"} {
			give(name)
			give(name + "/..")
			give(name + "%2f")
		}
	}
}

// positions are the places of a request where a client's string goes in.
var positions = []struct{ name, method, before, after string }{
	{"name", "GET", "/v2/", "/manifests/latest"},
	{"reference", "GET", "/v2/app/manifests/", ""},
	{"digest", "GET", "/v2/app/blobs/", ""},
	{"upload", "PATCH", "/v2/app/blobs/uploads/", ""},
	{"from", "POST", "/v2/app/blobs/uploads/?mount=" + string(sha256A) + "&from=", ""},
	{"ns", "GET", "/v2/app/manifests/latest?ns=", ""},
}

// TestHostilePaths: in every position, every such string is refused, and nothing
// is touched: neither outside the store nor in it.
func TestHostilePaths(t *testing.T) {
	dir := t.TempDir()
	const secret = "the canary sings"
	if err := os.WriteFile(filepath.Join(dir, "canary"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := disk.Open(filepath.Join(dir, "root"), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	registry, err := local.New(d.Blobs(), d.Records(), local.Options{Delete: true})
	if err != nil {
		t.Fatal(err)
	}
	h := serve.New(registry, serve.Options{})
	// What a store makes at its first use is there before.
	get(t, h, "POST", "/v2/app/blobs/uploads/?digest="+string(sha256A), "")
	before := tree(t, dir)

	entries, asked := 0, 0
	for s := range hostile() {
		entries++
		for _, p := range positions {
			target := p.before + s + p.after
			if s == "" && p.name == "upload" {
				continue // that is where uploads begin
			}
			if _, err := url.ParseRequestURI(target); err != nil {
				continue // the server itself refuses it
			}
			if _, query, _ := strings.Cut(target, "?"); strings.Contains(query, "from=") {
				// A name that is one is mounted from, which is no error.
				if v, err := url.ParseQuery(query); err == nil && (v.Get("from") == "" || validName(v.Get("from"))) {
					continue
				}
			}
			asked++
			w := get(t, h, p.method, target, "")
			if w.Code != 400 && w.Code != 404 {
				t.Errorf("%s: %s %.200s: status %d", p.name, p.method, target, w.Code)
			}
			if checkError(t, w.Code, w.Header(), w.Body.Bytes()) == "" || strings.Contains(w.Body.String(), secret) {
				t.Errorf("%s: %s %.200s: %.200s", p.name, p.method, target, w.Body)
			}
			if w.Header().Get("Location") != "" || w.Header().Get("X-Evil") != "" {
				t.Errorf("%s: %s %.200s: %v", p.name, p.method, target, w.Header())
			}
		}
	}
	if entries < 2000 || asked < 5*entries {
		t.Errorf("%d entries, %d requests: that is no corpus", entries, asked)
	}
	if after := tree(t, dir); after != before {
		t.Errorf("files before:\n%s\nand after:\n%s", before, after)
	}
}

func validName(s string) bool {
	_, err := origin.ParseRepo(s)
	return err == nil
}

// tree lists a directory with the times of its files.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		fmt.Fprintln(&b, path, info.Size(), info.ModTime())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
