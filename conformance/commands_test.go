//go:build clients

package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// run executes a command to its end and returns what it printed on standard
// output. It fails the test when the command does.
func run(t *testing.T, env []string, argv ...string) string {
	t.Helper()
	out, err := try(t, env, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try is run for a command that may fail. The error holds all that it printed.
func try(t *testing.T, env []string, argv ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var out, all bytes.Buffer
	cmd.Stdout, cmd.Stderr = &tee{&out, &all}, &all
	cmd.WaitDelay = time.Second // a daemon that a command leaves behind may hold the pipe
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return out.String(), fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, all.Bytes())
	}
	return out.String(), nil
}

type tee [2]*bytes.Buffer

func (t *tee) Write(p []byte) (int, error) {
	t[0].Write(p)
	return t[1].Write(p)
}

// workDir gives a directory for the test with a path so short that sockets fit in
// it (108 bytes). Whatever stays mounted below it is unmounted at the end.
func workDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Error(err)
		}
		for _, line := range slices.Backward(strings.Split(string(mounts), "\n")) {
			if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
				_ = syscall.Unmount(f[1], syscall.MNT_DETACH)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// url is where clients ask.
func (w *weir) url() string { return "http://" + w.addr }
