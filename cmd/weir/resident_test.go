package main

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
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
	if stays, err := placed("/proc/self/exe"); err != nil {
		t.Fatal(err)
	} else if !stays {
		runtime.GC() // it needs what was made right for where the program lies
		t.Skip("this program lies anywhere")
	}
	if after := mapped(t); after > before/2 {
		t.Errorf("%d of %d KiB are still mapped, of a program of %d KiB", after, before, len(program)>>10)
	}
}

// A program that lies anywhere is told from one that does not.
func TestWhereItLies(t *testing.T) {
	head, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	head = head[:64]
	for kind, want := range map[byte]bool{byte(elf.ET_EXEC): true, byte(elf.ET_DYN): false} {
		head[16], head[17] = kind, 0
		if order := elf.Data(head[elf.EI_DATA]); order == elf.ELFDATA2MSB {
			head[16], head[17] = 0, kind
		}
		file := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(file, head, 0o600); err != nil {
			t.Fatal(err)
		}
		if stays, err := placed(file); err != nil || stays != want {
			t.Errorf("%v: %v, %v", elf.Type(kind), stays, err)
		}
	}
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, head[:10], 0o600); err != nil {
		t.Fatal(err)
	}
	if stays, err := placed(file); err == nil || stays {
		t.Errorf("of a piece: %v, %v", stays, err)
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
