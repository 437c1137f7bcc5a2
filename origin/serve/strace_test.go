package serve_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	systemCall = regexp.MustCompile(`^\d+ +(\w+)\((.*)$`)
	quoted     = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
)

// TestHostilePathsUnderStrace: while TestHostilePaths asks, no system call of its
// process names a file outside its own temporary directory, but for those that any
// Go program looks at.
func TestHostilePathsUnderStrace(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal(err) // make tools installs it
	}
	dir := t.TempDir()
	trace := filepath.Join(dir, "trace")
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-s", "4096", "-e", "trace=%file", "-o", trace,
		os.Args[0], "-test.run", "^TestHostilePaths$", "-test.v")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestHostilePaths") {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	inside, outside := 0, map[string]int{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		call := systemCall.FindStringSubmatch(lines.Text())
		if call == nil || call[1] == "execve" {
			continue
		}
		for _, q := range quoted.FindAllStringSubmatch(call[2], -1) {
			switch name := q[1]; {
			case name == tmp, strings.HasPrefix(name, tmp+"/") && filepath.Clean(name) == name:
				inside++
			case !strings.HasPrefix(name, "/") && !slices.Contains(strings.Split(name, "/"), ".."):
				inside++ // below a directory that is open, one component after the other
			case strings.HasPrefix(tmp, strings.TrimSuffix(name, "/")+"/"), name == os.Args[0], anyProgram(name):
				// What leads to the directory is looked at to find that it holds no link.
			default:
				outside[fmt.Sprintf("%s %q", call[1], name)]++
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(outside) > 0 || inside < 100 {
		t.Errorf("%d names inside; outside:\n%v", inside, outside)
	}
}

// anyProgram reports whether a Go test looks at that file whatever it does.
func anyProgram(name string) bool {
	for _, prefix := range []string{"/proc/self/", "/proc/thread-self/", "/proc/sys/", "/sys/kernel/mm/", "/sys/fs/cgroup/", "/etc/ld.so", "/lib/", "/lib64/", "/usr/lib/"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	wd, err := os.Getwd()
	return err == nil && name == wd || slices.Contains([]string{"/etc/localtime", "/usr/share/zoneinfo/", "/dev/null"}, name)
}
