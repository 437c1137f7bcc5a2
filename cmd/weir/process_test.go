package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/oracletest"
)

// process is a weir in a process of its own, as an operator runs it.
type process struct {
	t      testing.TB
	public string // host:port
	admin  string
	file   string // its configuration
	log    string // the file with all that its lives have said
	before []string
	// program is the weir that runs; "": the tests' own.
	program string
	cmd     *exec.Cmd
	client  *http.Client
}

// newProcess prepares a weir that keeps its data there, with that configuration below
// the mirror key. before is what its command line begins with.
func newProcess(t testing.TB, data, mirror string, before ...string) *process {
	t.Helper()
	return newProcessOn(t, freeAddr(t), fmt.Sprintf("{blobs: {filesystem: {root: %q}}}", data), mirror, before...)
}

// newProcessOn is newProcess at that address, with that configuration below the store key.
func newProcessOn(t testing.TB, public, store, mirror string, before ...string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{
		t: t, public: public, admin: freeAddr(t), before: before,
		file: filepath.Join(dir, "weir.yaml"), log: filepath.Join(dir, "log"),
		client: &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16}},
	}
	text := fmt.Sprintf("log: {format: json}\nserver: {listen: %q}\nadmin: {listen: %q}\nstore: %s\nmirror:\n  well_known: false\n%s",
		p.public, p.admin, store, mirror)
	if err := os.WriteFile(p.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		if p.cmd != nil {
			p.kill()
		}
		if t.Failed() {
			said, _ := os.ReadFile(p.log)
			t.Logf("weir said, at the end:\n%s", said[max(0, len(said)-4000):])
		}
	})
	return p
}

// freeAddr is an address that nobody listens on. Its port is none of those from which the
// system takes ports for connections, so that it is still free for the next life of who
// listened on it.
func freeAddr(t testing.TB) string {
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

// registry is what it serves.
func (p *process) registry() *oracletest.HTTP {
	return &oracletest.HTTP{Base: "http://" + p.public, Client: p.client}
}

// start runs it, and gives the time until it is ready.
func (p *process) start() time.Duration {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	argv := append(p.before, cmp.Or(p.program, "weir"), "serve", "--config", p.file)
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// It begins a group: what its command line begins with ends with it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	begun := time.Now()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, "weir is ready", func() bool {
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid)); err != nil || bytes.Contains(stat, []byte(") Z ")) {
			p.t.Fatal("weir has ended")
		}
		resp, err := p.client.Get("http://" + p.admin + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return time.Since(begun)
}

// kill ends it at once, and returns when nothing of it is left.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	_ = p.cmd.Wait() // it was killed: that is what it says
	p.cmd = nil
}

// signal sends it a signal, and what its command line begins with too, and gives when.
func (p *process) signal(s syscall.Signal) time.Time {
	p.t.Helper()
	now := time.Now()
	if err := syscall.Kill(-p.cmd.Process.Pid, s); err != nil {
		p.t.Error(err)
	}
	return now
}

// stop ends it as an operator does.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil && p.before == nil {
		p.t.Errorf("weir ended with %v", err)
	}
	p.cmd = nil
}

// said reports whether one of its lives has said that.
func (p *process) said(what string) bool {
	p.t.Helper()
	return p.times(what) > 0
}

// times gives how often its lives have said that.
func (p *process) times(what string) int {
	p.t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	return bytes.Count(text, []byte(what))
}

// lines gives the lines of all that its lives have said that have that in them.
func (p *process) lines(with string) (lines []string) {
	p.t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, with) {
			lines = append(lines, line)
		}
	}
	return lines
}

// saidNothingBad wants that in none of its lives it has panicked, nor raced.
func (p *process) saidNothingBad() {
	p.t.Helper()
	said, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, bad := range []string{"DATA RACE", "panic", "fatal error"} {
		if bytes.Contains(said, []byte(bad)) {
			i := bytes.Index(said, []byte(bad))
			p.t.Errorf("weir said %q:\n%s", bad, strings.ToValidUTF8(string(said[i:min(len(said), i+3000)]), "?"))
		}
	}
}

// memory gives what the system says of the memory of p, in bytes: VmRSS is what it has,
// VmHWM the most that it ever had.
func (p *process) memory(key string) int64 {
	p.t.Helper()
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = status.Close() }()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(lines.Text(), key+": %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	p.t.Fatalf("no %s", key)
	return 0
}
