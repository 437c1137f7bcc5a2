package alonetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// Run executes a command to its end and returns what it printed on standard output; env is
// added to the environment. It fails the test when the command does.
func Run(t *testing.T, env []string, argv ...string) string {
	t.Helper()
	out, err := Try(t, env, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try is Run for a command that may fail. The error holds all that it printed.
func Try(t *testing.T, env []string, argv ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	var all together
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, &all), &all
	cmd.WaitDelay = time.Second // a daemon that a command leaves behind may hold the pipe
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return out.String(), fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, all.text.Bytes())
	}
	return out.String(), nil
}

// together takes what two write at the same time.
type together struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *together) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}
