package disktest

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
)

// Call is one system call in a trace of strace -f -y. It took from line Start to line
// End.
type Call struct {
	Name       string
	Paths      []string // files that it is about, absolute
	Text       string   // what a write writes, as strace quotes it
	OK         bool
	Start, End int
}

var (
	tracedCall = regexp.MustCompile(`^(\d+) +(\w+)\((.*)\) += (-?\d+)(<[^>]*>)?`)
	unfinished = regexp.MustCompile(`^(\d+) +(.*) <unfinished \.\.\.>$`)
	resumed    = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
	// tracedArg is a descriptor and its file, or a string.
	tracedArg = regexp.MustCompile(`(?:AT_FDCWD|\d+)<([^>]*)>|"((?:[^"\\]|\\.)*)"`)
)

// ParseTrace reads a trace. Calls that another thread interrupts are put together.
func ParseTrace(trace io.Reader) ([]Call, error) {
	lines := bufio.NewScanner(trace)
	lines.Buffer(nil, 1<<20)
	var events []Call
	type half struct {
		text  string
		start int
	}
	halves := map[string]half{} // by thread
	for n := 1; lines.Scan(); n++ {
		line, start := lines.Text(), n
		if m := unfinished.FindStringSubmatch(line); m != nil {
			halves[m[1]] = half{line[:len(line)-len(" <unfinished ...>")], n}
			continue
		}
		if m := resumed.FindStringSubmatch(line); m != nil {
			line, start = halves[m[1]].text+m[2], halves[m[1]].start
			delete(halves, m[1])
		}
		m := tracedCall.FindStringSubmatch(line)
		if m == nil {
			continue // a signal, or the end of a thread
		}
		e := Call{Name: m[2], OK: !strings.HasPrefix(m[4], "-"), Start: start, End: n}
		e.args(m[3])
		if e.Name == "openat" && len(m[5]) > 2 && e.OK {
			e.Paths = append(e.Paths, m[5][1:len(m[5])-1]) // what was opened
		}
		events = append(events, e)
	}
	return events, lines.Err()
}

// args takes the files of a call's arguments: a string is a name relative to the
// descriptor before it.
func (e *Call) args(args string) {
	dir := ""
	for _, m := range tracedArg.FindAllStringSubmatch(args, -1) {
		isDir, name := m[1], m[2]
		switch {
		case isDir != "" && strings.HasSuffix(e.Name, "at"):
			dir = isDir
		case isDir != "":
			e.Paths = append(e.Paths, isDir)
		case strings.Contains(e.Name, "write"):
			e.Text = name
			return
		case path.IsAbs(name):
			e.Paths = append(e.Paths, path.Clean(name))
		default:
			e.Paths = append(e.Paths, path.Join(dir, name))
		}
	}
}

// Is reports whether the call is one of those named, was done, and is about file.
func (e Call) Is(file string, names ...string) bool {
	for _, name := range names {
		if e.OK && e.Name == name && len(e.Paths) > 0 && e.Paths[len(e.Paths)-1] == file {
			return true
		}
	}
	return false
}

// Durable wants that, when the acknowledgement ack of the blob named begins, all
// that makes it durable was done, in this order: its data is synced, it gets its
// name, its directory is synced; and the parents of all directories newly made
// below base are synced, after that.
func Durable(events []Call, ack Call, base, name string) error {
	var placed *Call
	for i, e := range events {
		if e.Is(name, "rename", "renameat", "renameat2", "link", "linkat") && e.End < ack.Start {
			placed = &events[i]
		}
	}
	if placed == nil {
		return fmt.Errorf("%s: acknowledged without a rename or link", name)
	}
	from := placed.Paths[0]
	if !synced(events, from, 0, placed.Start) {
		return fmt.Errorf("%s: renamed without a sync of %s", name, from)
	}
	for _, e := range events {
		if e.Is(from, "write", "pwrite64", "writev", "ftruncate") && e.End < placed.Start && !synced(events, from, e.End, placed.Start) {
			return fmt.Errorf("%s: renamed without a sync of %s after its last write", name, from)
		}
	}
	if !synced(events, path.Dir(name), placed.End, ack.Start) {
		return fmt.Errorf("%s: acknowledged without a sync of its directory", name)
	}
	return parents(events, ack, base, name)
}

// Logged wants that, when the acknowledgement ack of the record of that key in the store
// root begins, all that makes it durable was done, in this order: a log that lies in the
// store has the record and is synced, with its name; the record's file gets its name.
// And if the log is removed, all was synced in between.
func Logged(events []Call, ack Call, base, root, key string) error {
	name, logs := path.Join(root, "records", key), path.Join(root, "log")
	var placed *Call
	for i, e := range events {
		if e.Is(name, "rename", "renameat", "renameat2") && e.End < ack.Start {
			placed = &events[i]
		}
	}
	if placed == nil {
		return fmt.Errorf("%s: acknowledged without a rename", name)
	}
	version := ""
	for _, e := range events {
		if e.Is(placed.Paths[0], "write") && e.End < placed.Start {
			version, _, _ = strings.Cut(e.Text, `\n`)
		}
	}
	if version == "" {
		return fmt.Errorf("%s: renamed before it was written", name)
	}
	var said *Call
	for i, e := range events {
		if e.OK && e.Name == "write" && len(e.Paths) == 1 && path.Dir(e.Paths[0]) == logs &&
			strings.Contains(e.Text, key+version+`\n`) && e.End < placed.Start {
			said = &events[i]
		}
	}
	if said == nil {
		return fmt.Errorf("%s: renamed before a log has it", name)
	}
	log := said.Paths[0]
	if !synced(events, log, said.End, placed.Start) {
		return fmt.Errorf("%s: renamed without a sync of %s", name, log)
	}
	for _, e := range events {
		switch {
		case e.Name == "openat" && e.Is(log, "openat") && e.End < said.Start && !synced(events, logs, e.End, said.Start):
			return fmt.Errorf("%s: the name of %s is not synced", name, log)
		case e.Is(log, "unlink", "unlinkat") && !allSynced(events, placed.End, e.Start):
			return fmt.Errorf("%s: %s is removed, and not all is synced", name, log)
		}
	}
	return parents(events, ack, base, log)
}

// parents wants that all directories newly made between base and a file were synced.
func parents(events []Call, ack Call, base, name string) error {
	for dir := path.Dir(name); dir != base && dir != "/"; dir = path.Dir(dir) {
		for _, e := range events {
			if e.Is(dir, "mkdir", "mkdirat") && e.End < ack.Start && !synced(events, path.Dir(dir), e.End, ack.Start) {
				return fmt.Errorf("%s: acknowledged without a sync of the parent of %s", name, dir)
			}
		}
	}
	return nil
}

// allSynced reports whether everything was synced between two lines.
func allSynced(events []Call, after, before int) bool {
	for _, e := range events {
		if e.OK && e.Name == "syncfs" && e.Start > after && e.End < before {
			return true
		}
	}
	return false
}

// synced reports whether file was synced between two lines.
func synced(events []Call, file string, after, before int) bool {
	for _, e := range events {
		if e.Is(file, "fsync", "fdatasync") && e.Start > after && e.End < before {
			return true
		}
	}
	return false
}
