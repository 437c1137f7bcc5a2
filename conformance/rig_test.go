//go:build conformance || clients || chaos || browser

package conformance

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-registry/weir/deploy/alonetest"
)

// TestMain runs the tests as on a machine of their own. Container engines keep sockets and
// locks in /run, whatever their own settings say: what runs on this machine already is not to
// be met there.
func TestMain(m *testing.M) {
	alonetest.Main(m, alonetest.Options{Why: "they start container engines", Mounts: map[string]string{"/run": "tmpfs"}})
}

// tool gives the path of a program that tools.sh builds, or of a file that it makes.
func tool(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "./tools.sh", name).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("tools.sh %s: %v\n%s", name, err, exit.Stderr)
		}
		t.Fatalf("tools.sh %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// freeAddr is an address that nobody listens on. Its port is none of those from which the
// system takes ports for connections, so that it is still free for the next life of who
// listened on it.
func freeAddr(t *testing.T) string {
	t.Helper()
	const first, last = 10_000, 30_000
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first)))
		if err != nil {
			continue // somebody does
		}
		_ = l.Close()
		return l.Addr().String()
	}
	t.Fatal("no port is free")
	return ""
}

// process is a server that a test started. It ends with the test, and when the
// test has failed the end of what it said is shown.
type process struct {
	name string
	log  string // file with its standard output and error
	cmd  *exec.Cmd
	over chan struct{} // closed when it has ended
	err  error         // how it ended; read after over
}

// start runs a server until the test ends; env is added to the environment.
func start(t *testing.T, name string, env []string, argv ...string) *process {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &process{name: name, log: log.Name(), over: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// It begins a group, so that what it forks and forgets can be ended with it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.over)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("%s said, at the end:\n%s", name, tail(p.log, 60))
		}
	})
	return p
}

// stop ends the process as its operator would, and by force after two minutes,
// which fails the test: weir may drain for half a minute. It may be called twice.
func (p *process) stop(t *testing.T) {
	t.Helper()
	pid := p.cmd.Process.Pid
	select {
	case <-p.over:
	default:
		_ = syscall.Kill(pid, syscall.SIGTERM)
		select {
		case <-p.over:
		case <-time.After(2 * time.Minute):
			t.Errorf("%s did not end within two minutes of SIGTERM", p.name)
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			<-p.over
		}
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
}

// kill ends the process as a power cut would, and takes that for what was to happen.
func (p *process) kill(t *testing.T) {
	t.Helper()
	select {
	case <-p.over:
		t.Fatalf("%s ended before it was killed: %v", p.name, p.err)
	default:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.over
	p.err = nil
}

// ready waits until try succeeds, and fails the test when the process ends first
// or a minute has passed.
func (p *process) ready(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-p.over:
			t.Fatalf("%s ended at once: %v", p.name, p.err)
		case <-deadline.C:
			t.Fatalf("%s is not ready after a minute: %v", p.name, err)
		case <-tick.C:
		}
	}
}

// listens is a try for ready: something accepts connections there.
func listens(network, addr string) func() error {
	return func() error {
		c, err := net.Dial(network, addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// tail gives the last n lines of a file.
func tail(name string, n int) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// write makes a file, and the directories that it is in.
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

// binary is the weir that `make build` left behind.
func binary(t *testing.T) string {
	t.Helper()
	name, err := filepath.Abs("../bin/weir")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		t.Fatal("bin/weir is not there: `make build` first")
	}
	return name
}

// weir is a running registry.
type weir struct {
	*process
	addr   string // host:port of its public listener
	admin  string // of the other one
	data   string
	client http.Client // reaches them
}

// startWeir runs `weir serve` with the configuration, to which listeners and the
// data directory are added.
func startWeir(t *testing.T, data, config string) *weir {
	t.Helper()
	return startWeirAt(t, freeAddr(t), data, config)
}

// startWeirAt is startWeir on an address where clients know it already.
func startWeirAt(t *testing.T, addr, data, config string) *weir {
	t.Helper()
	return startWeirOn(t, addr, data, fmt.Sprintf("{blobs: {filesystem: {root: %q}}}", data), config)
}

// startWeirOn is startWeirAt with its own store; data is where that is, if it is on disk.
func startWeirOn(t *testing.T, addr, data, store, config string) *weir {
	t.Helper()
	w := &weir{addr: addr, admin: freeAddr(t), data: data}
	file := write(t, filepath.Join(t.TempDir(), "weir.yaml"), fmt.Sprintf(`
log: {format: json}
server: {listen: %q}
admin: {listen: %q}
store: %s
%s`, w.addr, w.admin, store, config))
	w.process = start(t, "weir", nil, binary(t), "serve", "--config", file)
	t.Cleanup(func() {
		w.stop(t)
		if w.err != nil {
			t.Errorf("weir ended with %v", w.err)
		}
	})
	w.ready(t, listens("tcp", w.addr))
	return w
}

// gauges reads what weir says of itself: the value of each series, by its name and
// labels as they are written, and of each metric the sum of its series by its name.
func (w *weir) gauges(t *testing.T) map[string]float64 {
	t.Helper()
	resp, err := w.client.Get("http://" + w.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	values := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		series, text, _ := strings.Cut(lines.Text(), " ")
		v, err := strconv.ParseFloat(text, 64)
		if strings.HasPrefix(series, "#") || err != nil {
			continue
		}
		metric, _, labelled := strings.Cut(series, "{")
		if values[metric] += v; labelled {
			values[series] = v
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return values
}
