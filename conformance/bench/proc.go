package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU time in /proc/PID/stat: USER_HZ is 100 wherever Go runs Linux.
const tick = 10 * time.Millisecond

// A usage is what a process and its children have used.
type usage struct {
	cpu  time.Duration // user and system, of those that still run
	rss  int64         // bytes resident now
	peak int64         // the most bytes that were resident since resetPeak
}

// readUsage asks the kernel. Memory of several processes is added up, and what they
// share is then counted for each of them.
func readUsage(pid int) (usage, error) {
	pids, err := family(pid)
	if err != nil {
		return usage{}, err
	}
	var u usage
	for _, p := range pids {
		stat, err := os.ReadFile(procFile(p, "stat"))
		if err != nil {
			return u, err
		}
		cpu, err := parseStat(string(stat))
		if err != nil {
			return u, err
		}
		status, err := os.ReadFile(procFile(p, "status"))
		if err != nil {
			return u, err
		}
		rss, err := parseStatus(string(status), "VmRSS")
		if err != nil {
			return u, err
		}
		peak, err := parseStatus(string(status), "VmHWM")
		if err != nil {
			return u, err
		}
		u.cpu += cpu
		u.rss += rss
		u.peak += peak
	}
	return u, nil
}

// resetPeak makes the peak of resident memory start from what is resident now.
func resetPeak(pid int) error {
	pids, err := family(pid)
	for _, p := range pids {
		// 5: proc(5), /proc/PID/clear_refs
		err = errors.Join(err, os.WriteFile(procFile(p, "clear_refs"), []byte("5"), 0))
	}
	return err
}

// family gives a process and its direct children: the workers of a server.
func family(pid int) ([]int, error) {
	text, err := os.ReadFile(procFile(pid, filepath.Join("task", strconv.Itoa(pid), "children")))
	if err != nil {
		return nil, err
	}
	pids := []int{pid}
	for f := range strings.FieldsSeq(string(text)) {
		child, err := strconv.Atoi(f)
		if err != nil {
			return nil, fmt.Errorf("children of %d: %w", pid, err)
		}
		pids = append(pids, child)
	}
	return pids, nil
}

func procFile(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

// parseStat gives the CPU time in the text of /proc/PID/stat. The second field is
// the command's name in parentheses, which may hold spaces and parentheses.
func parseStat(text string) (time.Duration, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const user, system = 14 - 3, 15 - 3 // proc(5) counts from 1, and ours begin at the third
	if len(fields) <= system {
		return 0, fmt.Errorf("stat: %d fields behind the name: %q", len(fields), text)
	}
	var cpu time.Duration
	for _, i := range []int{user, system} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat: %w", err)
		}
		cpu += time.Duration(n) * tick
	}
	return cpu, nil
}

// parseStatus gives a size, in bytes, from the text of /proc/PID/status.
func parseStatus(text, key string) (int64, error) {
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(line, key+":")
		if !ok {
			continue
		}
		kilobytes, ok := strings.CutSuffix(strings.TrimSpace(value), " kB")
		n, err := strconv.ParseInt(kilobytes, 10, 64)
		if !ok || err != nil {
			return 0, fmt.Errorf("status: %q", line)
		}
		return n << 10, nil
	}
	return 0, fmt.Errorf("status: no %s", key)
}
