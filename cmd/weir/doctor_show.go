package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/weir-registry/weir/cmd/weir/doctor"
)

// printReport writes a report for people: a line for what is well, and all there is to
// say for what is not.
func printReport(to io.Writer, r *doctor.Report) error {
	w := bufio.NewWriter(to)
	fmt.Fprintf(w, "%s, asked for %s%s\n", r.Server, r.Image, either(r.Chosen, " (--image names another one)", ""))
	counts, widest := map[doctor.State]int{}, 0
	for _, c := range r.Clients {
		for _, check := range c.Checks {
			counts[check.State]++
			widest = max(widest, len(check.Name))
		}
	}
	for _, c := range r.Clients {
		fmt.Fprintf(w, "\n%s\n", c.Name)
		for _, check := range c.Checks {
			fmt.Fprintf(w, "  %-*s  %-*s  %s\n", len(doctor.Breaks), check.State, widest, check.Name, printable(check.Answer))
			if check.State == doctor.OK {
				continue
			}
			for _, line := range []struct{ name, text string }{
				{"request", check.Request}, {"client", check.Effect}, {"remedy", check.Hint},
			} {
				if line.text != "" {
					fmt.Fprintf(w, "  %*s  %-7s  %s\n", len(doctor.Breaks), "", line.name, printable(line.text))
				}
			}
		}
	}
	fmt.Fprintf(w, "\nok %d, note %d, would break %d\n", counts[doctor.OK], counts[doctor.Note], counts[doctor.Breaks])
	return w.Flush()
}

// printable is a text without what a terminal obeys.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return -1
	}, text)
}
