package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// warmLine is an image's name in a list, and the number of its line.
type warmLine struct {
	name   string
	number int
}

// parseWarmList reads a list of images: one a line, spaces around it do not count, and
// "#" begins a comment. It has at most 16 MiB.
func parseWarmList(r io.Reader) ([]warmLine, error) {
	const most = 16 << 20
	var lines []warmLine
	limited := &io.LimitedReader{R: r, N: most + 1}
	s := bufio.NewScanner(limited)
	for number := 1; s.Scan(); number++ {
		name, _, _ := strings.Cut(s.Text(), "#")
		if name = strings.TrimSpace(name); name != "" {
			lines = append(lines, warmLine{name, number})
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read the list of images: %w", err)
	}
	if limited.N == 0 {
		return nil, fmt.Errorf("the list of images has more than %d bytes", most)
	}
	return lines, nil
}
