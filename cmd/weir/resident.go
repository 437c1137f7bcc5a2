package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// forgetStart unmaps the pages of the program's own file that this process has touched. Half of
// them were needed only while it started, and would count as its memory for as long as it idles;
// what is needed again is mapped again from the kernel's cache, at the first touch. Where there is
// no /proc it does nothing; nor where the program was built to lie anywhere (-buildmode=pie): what
// was made right for where it lies is read-only by now, and would be as in the file again.
func forgetStart() error {
	program, err := os.Readlink("/proc/self/exe")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	if stays, err := placed("/proc/self/exe"); err != nil || !stays {
		return err
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("find the program's pages: %w", err)
	}
	defer func() { _ = maps.Close() }() // it was only read
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to uintptr
		var may string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &may); err != nil {
			return fmt.Errorf("read %q: %w", lines.Text(), err)
		}
		// What may be written to may differ from the file.
		if !strings.HasSuffix(lines.Text(), " "+program) || strings.Contains(may, "w") {
			continue
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("unmap pages of the program: %w", errno)
		}
	}
	return lines.Err()
}

// placed reports whether a program lies where its file says (ELF's ET_EXEC).
func placed(program string) (bool, error) {
	f, err := os.Open(program)
	if err != nil {
		return false, fmt.Errorf("read the program: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	var head [18]byte                // e_ident, e_type
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return false, fmt.Errorf("read the program: %w", err)
	}
	const executable = 2
	return string(head[:4]) == "\x7fELF" && binary.NativeEndian.Uint16(head[16:]) == executable, nil
}
