package coordtest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a redis-server that a test has started.
type Server struct {
	t       testing.TB
	program string
	dir     string
	addr    string
	cmd     *exec.Cmd
}

// Start runs a redis-server until the end of the test.
func Start(t testing.TB) *Server {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal(err) // make tools installs it
	}
	s := &Server{t: t, program: program, dir: t.TempDir()}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.Stop()
		}
	})
	for range 20 {
		// None of the ports that the system gives to those who connect: it must still be
		// free for the server's next life.
		s.addr = fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		l, err := net.Listen("tcp", s.addr)
		if err != nil {
			continue // somebody listens there
		}
		_ = l.Close()
		if err = s.run(); err == nil {
			return s
		}
		t.Logf("redis-server on %s: %v", s.addr, err)
	}
	t.Fatal("redis-server does not start")
	return nil
}

// URL is where it listens.
func (s *Server) URL() string { return "redis://" + s.addr }

// Addr is its host and port.
func (s *Server) Addr() string { return s.addr }

// run starts the process and waits until it answers.
func (s *Server) run() error {
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	cmd := exec.Command(s.program, "--port", port, "--bind", host, "--save", "", "--appendonly", "no",
		"--dir", s.dir, "--logfile", filepath.Join(s.dir, "redis.log"), "--daemonize", "no")
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for limit := time.After(Limit); ; {
		if reply, err := s.Say("PING"); err == nil && reply == "PONG" {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ended:
			said, _ := os.ReadFile(filepath.Join(s.dir, "redis.log"))
			s.cmd = nil
			return fmt.Errorf("it ended: %s", said)
		case <-limit:
			s.Stop()
			return fmt.Errorf("no answer")
		}
	}
}

// Stop kills it. What it held is gone.
func (s *Server) Stop() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
	s.signal(syscall.SIGKILL)
	s.cmd = nil
	for { // its port is free once nobody answers there
		conn, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err != nil {
			return
		}
		_ = conn.Close()
	}
}

// Restart starts it again, empty, where it was.
func (s *Server) Restart() {
	s.t.Helper()
	if err := s.run(); err != nil {
		s.t.Fatal(err)
	}
}

// Hold stops it in the middle of what it does (SIGSTOP); connections stay open.
func (s *Server) Hold() { s.signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Do says a command and gives its reply: lines of a reply of several are joined by NUL.
func (s *Server) Do(args ...string) string {
	s.t.Helper()
	reply, err := s.Say(args...)
	if err != nil {
		s.t.Fatalf("redis: %s: %v", args[0], err)
	}
	return reply
}

// Keys gives the names of all values.
func (s *Server) Keys() []string {
	s.t.Helper()
	if all := s.Do("KEYS", "*"); all != "" {
		return strings.Split(all, "\x00")
	}
	return nil
}

// Say is Do for a server that may be away.
func (s *Server) Say(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := conn.Write(b.Bytes()); err != nil {
		return "", err
	}
	return reply(bufio.NewReader(conn))
}

// reply reads one reply of the server's protocol.
func reply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, rest := line[0], strings.TrimRight(line[1:], "\r\n")
	switch kind {
	case '-':
		return "", fmt.Errorf("%s", rest)
	case '$', '*':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", err
		}
		if kind == '$' {
			data := make([]byte, n+2)
			_, err := io.ReadFull(r, data)
			return string(data[:n]), err
		}
		parts := make([]string, n)
		for i := range parts {
			if parts[i], err = reply(r); err != nil {
				return "", err
			}
		}
		return strings.Join(parts, "\x00"), nil
	default:
		return rest, nil
	}
}
