//go:build deploy

package deploy

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-registry/weir/deploy/alonetest"
)

// TestMain runs the tests as on a machine of their own: with its processes, its mounts and
// its network, where nobody listens on any port. What they write to /etc, /var/lib, /srv and
// /run is gone with it.
func TestMain(m *testing.M) {
	alonetest.Main(m, alonetest.Options{
		Why: "they install a package, and start what is in it as its user", Network: true,
		Mounts: map[string]string{"/run": "tmpfs"}, Settle: settle,
	})
}

// settle makes the namespaces a machine to write on. What is written ends up in a directory that
// undo removes.
func settle() (undo func(), err error) {
	var dir string
	if dir, err = os.MkdirTemp("", "weir-deploy-"); err != nil {
		return nil, err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	for _, over := range []string{"/etc", "/var/lib", "/srv"} {
		at := filepath.Join(dir, filepath.Base(over))
		if err := errors.Join(os.MkdirAll(at+"/upper", 0o755), os.Mkdir(at+"/work", 0o755)); err != nil {
			return nil, err
		}
		if err := syscall.Mount("overlay", over, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", over, at, at)); err != nil {
			return nil, fmt.Errorf("mount %s: %w", over, err)
		}
	}
	// Settings of the machine that lead elsewhere, and its own weir if it has one.
	for _, name := range []string{"/etc/weir", "/var/lib/weir", "/etc/docker", "/etc/containers/registries.conf.d"} {
		if err := os.RemoveAll(name); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "AWS_CA_BUNDLE"} {
		_ = os.Unsetenv(name)
	}
	return func() { _ = os.RemoveAll(dir) }, nil // what is mounted below it goes with the namespace
}

// tool gives the path of a program or a file that conformance/tools.sh makes.
func tool(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(run(t, nil, "../conformance/tools.sh", name))
}

// binary gives the path of bin/weir.
func binary(t *testing.T) string {
	t.Helper()
	name, err := filepath.Abs("../bin/weir")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); err != nil {
		t.Fatalf("`make build` first: %v", err)
	}
	return name
}

// run and try execute a command to its end.
var run, try = alonetest.Run, alonetest.Try

// write makes a file and the directories that it is in, and returns its name.
func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// server is a process that a test has started. It ends with the test, and when the test has
// failed the end of what it said is shown.
type server struct {
	t    *testing.T
	name string
	log  string // file with its standard output and error
	cmd  *exec.Cmd
	over chan struct{} // closed when it has ended
	err  error         // how it ended; read after over
}

// serve runs a server; env is added to the environment.
func serve(t *testing.T, name string, env []string, argv ...string) *server {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the process has its own
	s := &server{t: t, name: name, log: log.Name(), over: make(chan struct{})}
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.over)
	}()
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			said := read(t, s.log)
			t.Logf("%s said, at the end:\n%s", name, said[max(0, len(said)-6000):])
		}
	})
	return s
}

// stop ends the process as its operator would, and fails the test if that is no clean end.
// It may be called twice.
func (s *server) stop() {
	s.t.Helper()
	select {
	case <-s.over:
	default:
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.over:
		case <-time.After(40 * time.Second):
			s.t.Errorf("%s does not end", s.name)
			_ = s.cmd.Process.Kill()
			<-s.over
		}
	}
	if s.err != nil {
		s.t.Errorf("%s has ended: %v", s.name, s.err)
	}
}

// kill ends the process as a power cut would, and takes that for what was to happen.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.over
	s.err = nil
}

// until waits until what is true, and fails the test when the server ends first or a
// minute has passed.
func (s *server) until(what func() error) {
	s.t.Helper()
	until(s.t, s.name, s.over, what)
}

// until does that for something that ends when over is closed; nil: it does not.
func until(t *testing.T, name string, over <-chan struct{}, what func() error) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := what()
		if err == nil {
			return
		}
		select {
		case <-over:
			t.Fatalf("%s has ended; %v", name, err)
		case <-deadline.C:
			t.Fatalf("%s: after a minute: %v", name, err)
		case <-tick.C:
		}
	}
}

// ready is a wait for until: an address of the admin listener answers 200.
func ready(url string) func() error {
	return func() error {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		return nil
	}
}

// says is a wait for until: the server has said these words.
func (s *server) says(words string) func() error {
	return func() error {
		text, err := os.ReadFile(s.log)
		if err == nil && !strings.Contains(string(text), words) {
			err = fmt.Errorf("%q is not in what it says", words)
		}
		return err
	}
}
