package s3test

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The credentials of every server. They are no secret: it listens on loopback.
const (
	AccessKey = "weirtest"
	SecretKey = "weirtestsecret"
)

// Server is a running S3 server.
type Server struct {
	// URL is its endpoint. It wants path style, unless it was told of a domain.
	URL string
	// Dir is where it keeps objects: DIR/<bucket>/<key>.
	Dir string
}

// Start runs a server until the test ends. flags are put before its other ones.
func Start(t testing.TB, flags ...string) *Server {
	t.Helper()
	program := tool(t, "versitygw")
	dir := t.TempDir()
	s := &Server{Dir: filepath.Join(dir, "data")}
	for _, d := range []string{s.Dir, filepath.Join(dir, "iam")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	s.URL = "http://" + addr
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(program, append(flags, "--port", addr, "--access", AccessKey, "--secret", SecretKey, "--iam-dir", filepath.Join(dir, "iam"), "posix", s.Dir)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-over
	})
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-over:
			over <- err
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("versitygw has ended: %v\n%s", err, said)
		case <-deadline.C:
			t.Fatal("versitygw does not answer")
		case <-tick.C:
			resp, err := http.Get(s.URL)
			if err == nil {
				_ = resp.Body.Close()
				return s
			}
		}
	}
}

// Bucket makes a new, empty bucket, and gives its name.
func (s *Server) Bucket(t testing.TB) string {
	t.Helper()
	var random [8]byte
	rand.Read(random[:])
	name := "bucket-" + hex.EncodeToString(random[:])
	if err := os.Mkdir(filepath.Join(s.Dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// Objects gives the keys in a bucket that begin with prefix, and the size of each.
func (s *Server) Objects(t testing.TB, bucket, prefix string) map[string]int64 {
	t.Helper()
	root := filepath.Join(s.Dir, bucket)
	found := map[string]int64{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		key := filepath.ToSlash(strings.TrimPrefix(name, root+string(filepath.Separator)))
		if d.IsDir() || !strings.HasPrefix(key, prefix) {
			if d.IsDir() && key == ".sgwtmp" && !strings.HasPrefix(prefix, key) {
				return fs.SkipDir // the server's own
			}
			return nil
		}
		info, err := d.Info()
		if err == nil {
			found[key] = info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// tool gives the path of a program of conformance/tools.sh, which builds it if need be.
func tool(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		script := filepath.Join(dir, "conformance", "tools.sh")
		if _, err := os.Stat(script); err == nil {
			out, err := exec.Command(script, name).Output()
			if err != nil {
				if exit, ok := errors.AsType[*exec.ExitError](err); ok {
					err = fmt.Errorf("%w\n%s", err, exit.Stderr)
				}
				t.Fatalf("tools.sh %s: %v", name, err)
			}
			return strings.TrimSpace(string(out))
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("conformance/tools.sh is not there")
		}
		dir = filepath.Dir(dir)
	}
}
