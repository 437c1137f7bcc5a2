package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// After the start the program's own pages are not this process's memory, but for the few that
// are in use.
func TestForgetStart(t *testing.T) {
	program, err := os.ReadFile("/proc/self/exe") // so that all of it is in the kernel's cache
	if err != nil {
		t.Fatal(err)
	}
	before := mapped(t)
	if err := forgetStart(); err != nil {
		t.Fatal(err)
	}
	if after := mapped(t); after > before/2 {
		t.Errorf("%d of %d KiB are still mapped, of a program of %d KiB", after, before, len(program)>>10)
	}
}

// mapped gives how much of files is mapped, in KiB.
func mapped(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssFile:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}
