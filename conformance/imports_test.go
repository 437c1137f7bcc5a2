package conformance

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/weir-registry/weir"

// lattice says which room may import which. A line "a, b < c < d" lets c import
// a and b, and d import c and all that c may. A room that is not named on the
// right of a "<" imports no other; a room that is not named at all may not exist.
//
// This is a statement of policy, not a list of what happens to be imported. Do
// not edit it to make a build pass: if a room needs what it may not have, either
// the room or the policy is wrong, and which of the two is decided first, and
// written down in that room's DECISIONS.md.
const lattice = `
	# Bytes and small records. A backend knows the vocabulary and no other backend.
	store < store/disk, store/s3, store/mem, store/coord
	# Files that others change: it knows nothing else, and whoever reads some may use it.
	store/watch < origin/remote/egress, authz/basic, authz/mtls

	# How a rule is read that an operator writes: it knows neither what there is nor who asks.
	origin/rule < origin/lifetime, authz/policy
	# What bytes mean. The rooms of origin meet in cmd and nowhere else.
	store < origin
	origin < origin/local, origin/serve, origin/observe, origin/lifetime, origin/importer, origin/events
	origin/remote/egress < origin/remote/login < origin/remote/docker, origin/remote/ecr, origin/remote/gcr, origin/remote/acr
	origin, origin/remote/login < origin/remote

	# Reading through. A mirror is made of interfaces: it cannot know how near its origin is.
	store, origin < mirror/fill, mirror/evict, mirror/fanout < mirror
	# Somebody else's registry as the origin: wrapped in cmd, so that a mirror cannot know that it is.
	store, origin < mirror/foreign

	# Who may.
	authz < authz/mtls, authz/basic, authz/oidc, authz/token, authz/policy, authz/webhook
	origin, authz < authz/guard

	# The face. It reads a registry that a guard stands before, never a store.
	origin, authz/guard < ui/view < ui

	# Assembly: the only place that knows which implementation stands behind an interface.
	# What a file may say is what the room that obeys it takes: a rule, a hash, a key, an authority, a URL.
	origin, store/coord, authz/policy, authz/basic, authz/token, authz/mtls, origin/lifetime, origin/events < cmd/weir/config < cmd/weir/client < cmd/weir
	# It asks as clients do, and knows none of what answers.
	origin, origin/remote, origin/remote/egress, origin/remote/login, cmd/weir/config < cmd/weir/doctor < cmd/weir
	store/disk, store/s3, store/mem, store/coord < cmd/weir
	origin/local, origin/remote, origin/remote/egress, origin/serve, origin/observe < cmd/weir
	origin/remote/login, origin/remote/docker, origin/remote/ecr, origin/remote/gcr, origin/remote/acr < cmd/weir
	origin/lifetime, origin/importer, origin/events < cmd/weir
	mirror, mirror/fill, mirror/evict, mirror/fanout, mirror/foreign < cmd/weir
	authz/mtls, authz/basic, authz/oidc, authz/token, authz/policy, authz/webhook, authz/guard < cmd/weir
	ui/view, ui < cmd/weir

	# What ships, and what proves. A room called ...test is for tests: they may all use it, and nothing that ships does.
	deploy
	# A machine for tests that install, mount and start what they like.
	deploy/alonetest
	# The chart is no Go: its room holds the proof, which needs helm and not a room.
	deploy/helm
	deploy/helm/charttest
	# It puts a binary that is there into an image: it imports none of what the binary is made of.
	deploy/image
	# The terms of what is linked in, as go lists it.
	deploy/licences
	store < store/storetest
	store/disk < store/disk/disktest
	# A server that is a process of its own, and a network that goes wrong before it.
	store/s3/s3test
	store/coord < store/coord/coordtest
	origin < origin/origintest
	origin < origin/oracletest
	origin < origin/remote/remotetest
	origin/observe/otlptest
	authz/mtls/mtlstest
	cmd/weir < conformance
	# It measures programs over the network: it imports none of them.
	conformance/bench
`

// A never is an import that stays forbidden even where the lattice would grow to
// allow it. "..." stands for any path below.
type never struct{ room, imports, why string }

// nevers hold for what a room imports itself; standard library included.
var nevers = []never{
	{"mirror/...", "origin/local", "a mirror fills any origin, also one that is reached over HTTP: it sees origin.Registry only"},
	{"mirror/...", "origin/remote", "an upstream is an origin.Reader; how it is reached, and with which credentials, is wired in cmd"},
	{"mirror/...", "origin/serve", "what a mirror answers must not depend on being asked over HTTP"},
	{"store/...", "origin/...", "a store that knows repositories would be written once per backend"},
	{"origin/serve", "authz/...", "rights are a decorator around the registry: a check inside a handler is one that a route can forget"},
	{"ui/...", "store/...", "whatever a page shows has passed a guard, and a store has none"},
	{"store/disk", "net/http", "a store knows bytes, not how they are asked for"},
	{"store/mem", "net/http", "a store knows bytes, not how they are asked for"},
	{"store", "net/http", "a store knows bytes, not how they are asked for"},
	{"origin/lifetime", "net/http", "it works on a store and a clock, so that it can be tested without either"},
	{"...", "unsafe", "nothing here is worth memory safety"},
	{"...", "C", "the binary is static and cross-compiles; cgo would end both"},
	{"...", "plugin", "it needs cgo, and what is not in the binary cannot be tested with it"},
	{"...", "expvar", "it registers itself on the default mux when imported"},
	{"...", "math/rand", "upload ids and nonces must not be guessable; math/rand/v2 is there for jitter"},
	{"store/...", "log", "lines are structured: log/slog"},
	{"origin/...", "log", "lines are structured: log/slog"},
	{"mirror/...", "log", "lines are structured: log/slog"},
}

// A home is where a module may be imported. An import of a module without a home
// fails: a new dependency is a decision, and this is where it is recorded.
type home struct {
	module string
	rooms  []string
	why    string
}

var anywhere = []string{"..."}

var homes = []home{
	{"github.com/opencontainers/go-digest", anywhere, "the one type for a digest"},
	{"github.com/opencontainers/image-spec", []string{"origin/...", "mirror/...", "authz/guard", "ui/...", "cmd/..."}, "a store knows no OCI"},
	{"github.com/distribution/reference", []string{"origin", "cmd/..."}, "names are parsed once, where they enter"},
	{"github.com/gorilla/mux", []string{"origin/serve", "cmd/..."}, "one route table"},
	{"github.com/google/go-containerregistry", []string{"origin/remote/...", "conformance", "deploy/image"}, "its transport is guarded there, and its types end there; it makes the image that ships"},
	{"github.com/hashicorp/golang-lru/v2", []string{"mirror/...", "origin/local", "authz/...", "cmd/weir/config"}, "a bounded map is wanted where memory is kept per name, and nowhere else"},
	{"github.com/prometheus/client_golang", []string{"origin/observe", "cmd/..."}, "rooms count through what observe gives them, so that a second instance in a process works"},
	{"golang.org/x/sync", anywhere, "errgroup, singleflight, semaphore"},
	{"golang.org/x/time", []string{"mirror/...", "origin/remote/...", "origin/lifetime", "authz/...", "cmd/..."}, "rate limits"},
	{"golang.org/x/sys", []string{"origin/serve"}, "only what sends files asks the kernel how much of them has gone out"},
	{"golang.org/x/term", []string{"cmd/..."}, "only a command has a terminal"},
	{"github.com/fsnotify/fsnotify", []string{"cmd/..."}, "only cmd knows which files a configuration is made of"},
	{"github.com/spf13/cobra", []string{"cmd/..."}, "only cmd has commands"},
	{"github.com/vbauerster/mpb/v8", []string{"cmd/weir"}, "bars on a terminal, for a command that takes its time"},
	{"github.com/goccy/go-yaml", []string{"cmd/..."}, "only cmd knows the file format"},
	{"github.com/aws/aws-sdk-go-v2", []string{"store/s3", "origin/remote/ecr"}, "a cloud stays behind the one room that speaks to it"},
	{"golang.org/x/oauth2", []string{"origin/remote/gcr"}, "Google's default credentials, behind the one room that asks for them"},
	{"github.com/redis/go-redis/v9", []string{"store/coord/..."}, "losing Redis costs speed only, and one room proves it"},
	{"github.com/google/cel-go", []string{"origin/rule", "authz/policy", "origin/lifetime"}, "rules are read by one, and compiled where they are asked"},
	{"github.com/coreos/go-oidc/v3", []string{"authz/oidc", "ui"}, "identity is checked in one room; ui signs in with it"},
	{"github.com/go-jose/go-jose/v4", []string{"authz/oidc", "authz/token"}, "go-oidc checks signatures with it, and gives no key by its name; weir's own tokens are signed with it"},
	{"golang.org/x/crypto/x509roots/fallback", []string{"deploy/image"}, "the authorities in the image; elsewhere the system's are believed"},
	{"golang.org/x/crypto", []string{"authz/basic"}, "password hashes"},
	{"github.com/cloudevents/sdk-go/v2", []string{"origin/events"}, "the form of an event is a standard's"},
	{"github.com/CycloneDX/cyclonedx-go", []string{"deploy/image"}, "what an image is made of, as scanners read it"},
	{"github.com/package-url/packageurl-go", []string{"deploy/image"}, "the name of a module, as scanners know it"},
	{"github.com/secure-systems-lab/go-securesystemslib", []string{"deploy/image"}, "envelopes of signatures, and cosign's private keys"},
	{"go.opentelemetry.io/otel/sdk", []string{"origin/observe", "cmd/..."}, "who exports is decided once; the API may be used anywhere"},
	{"go.opentelemetry.io/otel/exporters", []string{"origin/observe"}, "who exports is decided once; the API may be used anywhere"},
	{"go.opentelemetry.io/otel", anywhere, "the API of tracing"},
}

// testHomes holds for _test.go files and for rooms for tests, on top of homes.
var testHomes = []home{
	{"github.com/google/go-containerregistry", anywhere, "its registry and random images are the small fake upstream"},
	{"github.com/prometheus/client_golang", anywhere, "testutil reads a counter"},
	{"github.com/prometheus/common", []string{"cmd/weir"}, "what is at /metrics is read as Prometheus reads it"},
	{"github.com/rogpeppe/go-internal", anywhere, "testscript"},
	{"go.opentelemetry.io/proto/otlp", []string{"origin/observe/otlptest"}, "what is exported is received there as it is on the wire"},
	{"google.golang.org/grpc", []string{"origin/observe/..."}, "the receiver of the tests is a real one"},
	{"go.uber.org/goleak", anywhere, "goroutines that stay"},
	{"pgregory.net/rapid", anywhere, "properties"},
	{"github.com/opencontainers/image-spec", []string{"conformance"}, "images for a browser to look at"},
	{"github.com/chromedp", []string{"conformance"}, "a real browser looks at the pages"},
	{"github.com/getkin/kin-openapi", []string{"cmd/weir"}, "answers are held against what describes them"},
	{"github.com/Shopify/toxiproxy/v2", []string{"conformance"}, "a network that goes wrong, between the binary and a real upstream"},
	{"github.com/aws/aws-sdk-go-v2", []string{"store/s3/s3test"}, "a request that is changed on its way is signed anew"},
	{"github.com/goccy/go-yaml", []string{"deploy/helm/..."}, "what a chart renders is read as YAML"},
	{"github.com/go-jose/go-jose/v4", []string{"deploy"}, "tokens are signed as a provider signs them"},
	{"github.com/rs/zerolog", []string{"conformance"}, "toxiproxy logs through it, and is told not to"},
}

// file is what the policy looks at in one source file.
type file struct {
	path    string // from the module's root, slashes
	room    string
	test    bool
	imports []string
	syntax  *ast.File
}

// sourceFiles parses every Go file of the module, whatever its build tags: what
// is built on another system or under another tag obeys the same policy.
func sourceFiles(t *testing.T) []file {
	t.Helper()
	var files []file
	fset := token.NewFileSet()
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			hidden := strings.HasPrefix(base, ".") && name != ".."
			if hidden || base == "testdata" || base == "node_modules" {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(base) != ".go" {
			return nil
		}
		syntax, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(name, ".."+string(filepath.Separator)))
		f := file{path: rel, room: path.Dir(rel), test: strings.HasSuffix(base, "_test.go"), syntax: syntax}
		for _, spec := range syntax.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, p)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// parseLattice gives, for each room that the text names, the rooms it may import.
func parseLattice(text string) (map[string]map[string]bool, error) {
	below := map[string]map[string]bool{}
	add := func(room string) map[string]bool {
		if below[room] == nil {
			below[room] = map[string]bool{}
		}
		return below[room]
	}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		var left []string
		for group := range strings.SplitSeq(line, "<") {
			var rooms []string
			for room := range strings.SplitSeq(group, ",") {
				if room = strings.TrimSpace(room); room == "" {
					return nil, fmt.Errorf("empty room in %q", line)
				}
				rooms = append(rooms, room)
			}
			for _, room := range rooms {
				may := add(room)
				for _, l := range left {
					may[l] = true
				}
			}
			left = rooms
		}
	}
	// Close it: to import a room is to live with what that room imports.
	for grown := true; grown; {
		grown = false
		for room, may := range below {
			for l := range maps.Clone(may) {
				for ll := range below[l] {
					if !may[ll] {
						may[ll], grown = true, true
					}
				}
			}
			if may[room] {
				return nil, fmt.Errorf("%s is below itself", room)
			}
		}
	}
	return below, nil
}

// matches reports whether a pattern ("a", "a/..." which includes a, "...") names p.
func matches(pattern, p string) bool {
	prefix, wild := strings.CutSuffix(pattern, "...")
	prefix = strings.TrimSuffix(prefix, "/")
	return p == prefix || wild && (prefix == "" || strings.HasPrefix(p, prefix+"/"))
}

func mayLive(homes []home, imported, room string) (known, allowed bool, why string) {
	for _, h := range homes {
		if !matches(h.module+"/...", imported) {
			continue
		}
		allowed = slices.ContainsFunc(h.rooms, func(r string) bool { return matches(r, room) })
		return true, allowed, h.why // the first that matches: otel's SDK stands before its API
	}
	return false, false, ""
}

// violations gives what a file imports against the policy, one sentence each.
//
// A test, and a room for tests, may import any room but cmd and conformance to
// build its scene; the nevers hold for them only where they are about the language
// (unsafe, cgo).
func violations(below map[string]map[string]bool, f file) []string {
	var found []string
	say := func(format string, args ...any) {
		found = append(found, f.path+": "+fmt.Sprintf(format, args...))
	}
	may, known := below[f.room]
	if !known {
		say("no room is called %s: a new room is a decision, recorded in the lattice", f.room)
	}
	exam := f.test || strings.HasSuffix(f.room, "test")
	for _, imported := range f.imports {
		room, ours := strings.CutPrefix(imported, module+"/")
		if !ours {
			room = imported
		}
		banned := slices.IndexFunc(nevers, func(n never) bool {
			return (!exam || n.room == "...") && matches(n.room, f.room) && matches(n.imports, room)
		})
		switch domain, _, _ := strings.Cut(imported, "/"); {
		case banned >= 0:
			say("imports %s: %s", room, nevers[banned].why)
		case ours && exam:
			if top, _, _ := strings.Cut(room, "/"); (top == "cmd" || top == "conformance") && !matches(top+"/...", f.room) {
				say("imports %s: nothing but itself does", room)
			}
		case ours:
			if !may[room] {
				say("%s may not import %s", f.room, room)
			}
		case strings.Contains(domain, "."):
			known, allowed, why := mayLive(homes, imported, f.room)
			if !allowed && exam {
				k, a, w := mayLive(testHomes, imported, f.room)
				if k {
					known, allowed, why = k, a, w
				}
			}
			switch {
			case !known:
				say("imports %s, which has no home yet: a new dependency is a decision, recorded in homes", imported)
			case !allowed:
				say("%s is not the home of %s: %s", f.room, imported, why)
			}
		}
	}
	return found
}

func TestImports(t *testing.T) {
	below, err := parseLattice(lattice)
	if err != nil {
		t.Fatal(err)
	}
	files := sourceFiles(t)
	if len(files) < 10 {
		t.Fatalf("only %d files: this does not look at the module", len(files))
	}
	for _, f := range files {
		for _, v := range violations(below, f) {
			t.Error(v)
		}
	}
}

// TestPolicyBites proves that each kind of rule can fail.
func TestPolicyBites(t *testing.T) {
	below, err := parseLattice(lattice)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, imports string
		ok            bool
	}{
		{"mirror/tags.go", module + "/origin", true},
		{"mirror/tags.go", module + "/store", true},
		{"mirror/tags.go", module + "/mirror/fill", true},
		{"mirror/tags.go", module + "/origin/local", false},
		{"mirror/tags_test.go", module + "/origin/local", true},
		{"mirror/tags_test.go", module + "/cmd/weir/config", false},
		{"mirror/fill/fill.go", module + "/mirror", false},
		{"origin/local/tags.go", module + "/origin/serve", false},
		{"origin/serve/route.go", module + "/authz", false},
		{"origin/serve/route.go", "github.com/gorilla/mux", true},
		{"origin/local/tags.go", "github.com/gorilla/mux", false},
		{"origin/remote/egress/dial.go", "github.com/google/go-containerregistry/pkg/v1/remote/transport", true},
		{"mirror/tags.go", "github.com/google/go-containerregistry/pkg/name", false},
		{"mirror/tags_test.go", "github.com/google/go-containerregistry/pkg/registry", true},
		{"mirror/tags_test.go", "github.com/gorilla/mux", false},
		{"mirror/tags.go", "github.com/prometheus/client_golang/prometheus", false},
		{"cmd/weir/wire.go", "github.com/prometheus/client_golang/prometheus", true},
		{"cmd/weir/wire.go", module + "/origin/remote", true},
		{"cmd/weir/wire.go", module + "/store", true},
		{"cmd/weir/wire.go", module + "/conformance", false},
		{"store/disk/disk.go", module + "/store/mem", false},
		{"store/disk/disk.go", module + "/store/storetest", false},
		{"store/disk/disk_test.go", module + "/store/storetest", true},
		{"store/storetest/exam.go", "pgregory.net/rapid", true},
		{"store/disk/disk.go", "net/http", false},
		{"store/disk/disk.go", "os", true},
		{"store/store.go", module + "/origin", false},
		{"ui/page.go", module + "/store", false},
		{"ui/page.go", module + "/origin", true},
		{"origin/name.go", "unsafe", false},
		{"origin/name_test.go", "C", false},
		{"origin/name.go", "example.org/left/pad", false},
		{"authz/authz.go", "go.opentelemetry.io/otel/trace", true},
		{"authz/authz.go", "go.opentelemetry.io/otel/sdk/trace", false},
		{"util/util.go", "strings", false},
	} {
		f := file{path: c.path, room: path.Dir(c.path), test: strings.HasSuffix(c.path, "_test.go"), imports: []string{c.imports}}
		if found := violations(below, f); (len(found) == 0) != c.ok {
			t.Errorf("%s importing %s: allowed is %t, want %t %v", c.path, c.imports, len(found) == 0, c.ok, found)
		}
	}
	if _, err := parseLattice("a < b < c\nc < a"); err == nil {
		t.Error("a circle is accepted")
	}
}

// TestNoActionAtDistance: everything that happens is listed in wire.go. A package
// that acts when it is imported cannot be left out of a program, nor made twice.
func TestNoActionAtDistance(t *testing.T) {
	for _, f := range sourceFiles(t) {
		if f.test {
			continue
		}
		for _, spec := range f.syntax.Imports {
			if spec.Name != nil && (spec.Name.Name == "." || spec.Name.Name == "_" && spec.Path.Value != `"embed"`) {
				t.Errorf("%s: import %s %s", f.path, spec.Name.Name, spec.Path.Value)
			}
		}
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init", f.path)
			}
		}
	}
}
