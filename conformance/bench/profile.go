package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// profile runs each row again in which weir missed a goal, and keeps a profile of
// its CPU below dir. The numbers are those of the first time: a profile costs a little.
func (b *bench) profile(ctx context.Context, r *report, dir string) error {
	s, ok := b.server(weir)
	if !ok {
		return nil
	}
	for _, f := range r.Rows {
		if !f.missed() || f.took[weir] == 0 {
			continue // nothing to look at, or no stretch of time that would be worth it
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		file := filepath.Join(dir, f.Name+".pb.gz")
		seconds := min(max(1, int(f.took[weir]+0.5)), 30)
		fmt.Fprintf(b.progress, "%-16s profile of %d s\n", f.Name, seconds)
		if _, _, err := b.try(ctx, f.row, s, seconds, file); err != nil {
			f.Failures[weir+", profiled"] = err.Error()
			continue
		}
		f.Profile = filepath.Join(filepath.Base(dir), filepath.Base(file))
		var err error
		if f.Top, err = top(ctx, file); err != nil {
			return err
		}
	}
	return nil
}

// takeProfile asks weir's admin listener for a CPU profile of so many seconds.
func takeProfile(ctx context.Context, admin string, seconds int, file string) error {
	client := &http.Client{Timeout: time.Duration(seconds)*time.Second + 20*time.Second}
	resp, err := get(ctx, client, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, seconds))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s", resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}

// top gives where a profile's CPU went: the functions that used most of it, then
// those of weir in which, with all that they called, most was spent.
func top(ctx context.Context, file string) ([]string, error) {
	flat, err := pprof(ctx, file, "-nodecount=8")
	if err != nil {
		return nil, err
	}
	cumulated, err := pprof(ctx, file, "-cum", "-nodecount=80")
	if err != nil {
		return nil, err
	}
	lines := append(flat, "below:")
	for _, line := range cumulated {
		if strings.Contains(line, "weir-registry/weir/") && len(lines) < len(flat)+9 {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// pprof gives the lines of `go tool pprof -top`, from the one with the duration on.
func pprof(ctx context.Context, file string, options ...string) ([]string, error) {
	args := append([]string{"tool", "pprof", "-top"}, options...)
	out, err := exec.CommandContext(ctx, "go", append(args, file)...).Output()
	if err != nil {
		return nil, fmt.Errorf("pprof %s: %w", file, err)
	}
	_, table, _ := strings.Cut(string(out), "\nDuration")
	var lines []string
	for line := range strings.Lines("Duration" + table) {
		lines = append(lines, strings.TrimRight(line, "\n"))
	}
	return lines, nil
}
