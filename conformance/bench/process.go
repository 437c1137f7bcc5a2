package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// errEnded is a server that ended by itself.
var errEnded = errors.New("ended by itself")

// A process is a server that runs.
type process struct {
	place
	pid   int
	log   string        // file with what it says
	ready time.Duration // from its start to its first answer
	over  chan struct{} // closed when it has ended
	err   error         // how; read after over
}

// start runs a server at p and waits for its first answer. errEnded when it ends
// instead; the caller stops it.
func start(ctx context.Context, s server, p place) (*process, error) {
	if err := os.MkdirAll(filepath.Join(p.dir, "data"), 0o755); err != nil {
		return nil, err
	}
	config := filepath.Join(p.dir, "config")
	if s.config != nil {
		if err := os.WriteFile(config, []byte(s.config(p)), 0o644); err != nil {
			return nil, err
		}
	}
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(s.program, s.argv(p, config)...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: what it forks ends with it, and a ^C is ours to handle.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	run := &process{place: p, pid: cmd.Process.Pid, log: log.Name(), over: make(chan struct{})}
	go func() {
		run.err = cmd.Wait()
		close(run.over)
	}()
	if err := run.answer(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w; it said: %s", s.name, err, tail(run.log, 5)), run.stop())
	}
	run.ready = time.Since(began)
	return run, nil
}

// answer waits until the process answers anything over HTTP.
func (p *process) answer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := get(ctx, client, "http://"+p.addr+"/v2/")
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			return errors.Join(err, resp.Body.Close())
		}
		select {
		case <-p.over:
			return fmt.Errorf("%w: %v", errEnded, p.err)
		case <-ctx.Done():
			return fmt.Errorf("does not answer: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

// stop ends the process as its operator would, and by force after ten seconds. How
// it then ended is not asked: peers end SIGTERM with all kinds of codes.
func (p *process) stop() error {
	select {
	case <-p.over:
		return nil
	default:
	}
	err := syscall.Kill(p.pid, syscall.SIGTERM)
	select {
	case <-p.over:
	case <-time.After(10 * time.Second):
		err = errors.Join(fmt.Errorf("%d did not end within 10 s of SIGTERM", p.pid), syscall.Kill(-p.pid, syscall.SIGKILL))
		<-p.over
	}
	return err
}

// freeAddr gives a loopback address that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// tail gives the last n lines of a file on one line.
func tail(name string, n int) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
