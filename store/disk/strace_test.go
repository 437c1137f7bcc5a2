package disk_test

import (
	"bufio"
	"fmt"
	"path"
	"regexp"
	"strings"
	"testing"
)

// syscallEvent is one system call in a trace of strace -f -y. It took from line
// start to line end.
type syscallEvent struct {
	name       string
	paths      []string // files that it is about, absolute
	text       string   // what a write writes, as strace quotes it
	ok         bool
	start, end int
}

var (
	tracedCall = regexp.MustCompile(`^(\d+) +(\w+)\((.*)\) += (-?\d+)(<[^>]*>)?`)
	unfinished = regexp.MustCompile(`^(\d+) +(.*) <unfinished \.\.\.>$`)
	resumed    = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
	// tracedArg is a descriptor and its file, or a string.
	tracedArg = regexp.MustCompile(`(?:AT_FDCWD|\d+)<([^>]*)>|"((?:[^"\\]|\\.)*)"`)
)

// parseTrace reads a trace. Calls that another thread interrupts are put together.
func parseTrace(lines *bufio.Scanner) ([]syscallEvent, error) {
	lines.Buffer(nil, 1<<20)
	var events []syscallEvent
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
		e := syscallEvent{name: m[2], ok: !strings.HasPrefix(m[4], "-"), start: start, end: n}
		e.args(m[3])
		if e.name == "openat" && len(m[5]) > 2 && e.ok {
			e.paths = append(e.paths, m[5][1:len(m[5])-1]) // what was opened
		}
		events = append(events, e)
	}
	return events, lines.Err()
}

// args takes the files of a call's arguments: a string is a name relative to the
// descriptor before it.
func (e *syscallEvent) args(args string) {
	dir := ""
	for _, m := range tracedArg.FindAllStringSubmatch(args, -1) {
		isDir, name := m[1], m[2]
		switch {
		case isDir != "" && strings.HasSuffix(e.name, "at"):
			dir = isDir
		case isDir != "":
			e.paths = append(e.paths, isDir)
		case strings.Contains(e.name, "write"):
			e.text = name
			return
		case path.IsAbs(name):
			e.paths = append(e.paths, path.Clean(name))
		default:
			e.paths = append(e.paths, path.Join(dir, name))
		}
	}
}

// is reports whether the call is one of those named, was done, and is about file.
func (e syscallEvent) is(file string, names ...string) bool {
	for _, name := range names {
		if e.ok && e.name == name && len(e.paths) > 0 && e.paths[len(e.paths)-1] == file {
			return true
		}
	}
	return false
}

// durable wants that, when the acknowledgement ack of the file named begins, all
// that makes it durable was done, in this order: its data is synced, it gets its
// name, its directory is synced; and the parents of all directories newly made
// below base are synced, after that.
func durable(events []syscallEvent, ack syscallEvent, base, name string) error {
	var placed *syscallEvent
	for i, e := range events {
		if e.is(name, "rename", "renameat", "renameat2", "link", "linkat") && e.end < ack.start {
			placed = &events[i]
		}
	}
	if placed == nil {
		return fmt.Errorf("%s: acknowledged without a rename or link", name)
	}
	from := placed.paths[0]
	if !synced(events, from, 0, placed.start) {
		return fmt.Errorf("%s: renamed without a sync of %s", name, from)
	}
	for _, e := range events {
		if e.is(from, "write", "pwrite64", "writev", "ftruncate") && e.end < placed.start && !synced(events, from, e.end, placed.start) {
			return fmt.Errorf("%s: renamed without a sync of %s after its last write", name, from)
		}
	}
	if !synced(events, path.Dir(name), placed.end, ack.start) {
		return fmt.Errorf("%s: acknowledged without a sync of its directory", name)
	}
	for dir := path.Dir(name); dir != base && dir != "/"; dir = path.Dir(dir) {
		for _, e := range events {
			if e.is(dir, "mkdir", "mkdirat") && e.end < ack.start && !synced(events, path.Dir(dir), e.end, ack.start) {
				return fmt.Errorf("%s: acknowledged without a sync of the parent of %s", name, dir)
			}
		}
	}
	return nil
}

// synced reports whether file was synced between two lines.
func synced(events []syscallEvent, file string, after, before int) bool {
	for _, e := range events {
		if e.is(file, "fsync", "fdatasync") && e.start > after && e.end < before {
			return true
		}
	}
	return false
}

// goodTrace is a record's life; each line that a fault of the store could leave out
// is needed.
const goodTrace = `10 mkdirat(3</r>, "records", 0700) = 0
10 openat(3</r>, ".", O_RDONLY) = 4</r>
10 fsync(4</r>) = 0
10 openat(5</r/tmp>, "n1", O_WRONLY|O_CREAT|O_EXCL, 0600) = 6</r/tmp/n1>
10 write(6</r/tmp/n1>, "some \"data\"\n", 12) = 12
11 fsync(6</r/tmp/n1> <unfinished ...>
12 fsync(9</r/tmp/n2>) = 0
11 <... fsync resumed>) = 0
10 renameat(5</r/tmp>, "n1", 7</r/records>, "k") = 0
11 fsync(7</r/records>) = 0
10 write(1<pipe:[77]>, "ack records/k\n", 14) = 14
10 +++ exited with 0 +++
`

func TestDurableChecksTheOrder(t *testing.T) {
	lines := strings.SplitAfter(goodTrace, "\n")
	swap := func(i, j int) string {
		l := append([]string(nil), lines...)
		l[i], l[j] = l[j], l[i]
		return strings.Join(l, "")
	}
	without := func(i int) string {
		return strings.Join(append(append([]string(nil), lines[:i]...), lines[i+1:]...), "")
	}
	for _, c := range []struct{ name, trace, want string }{
		{"good", goodTrace, ""},
		{"no sync of the new directory's parent", without(2), "parent of /r/records"},
		{"sync of the parent before it was made", swap(0, 2), "parent of /r/records"},
		{"no sync of the data", without(5), "without a sync of /r/tmp/n1"},
		{"sync of the data fails", strings.Replace(goodTrace, "resumed>) = 0", "resumed>) = -1 EIO", 1), "without a sync of /r/tmp/n1"},
		{"sync of the data ends behind the rename", swap(7, 8), "without a sync of /r/tmp/n1"},
		{"write behind the sync", strings.Replace(without(4), lines[8], lines[4]+lines[8], 1), "after its last write"},
		{"no rename", without(8), "without a rename"},
		{"rename fails", strings.Replace(goodTrace, `"k") = 0`, `"k") = -1 ENOSPC`, 1), "without a rename"},
		{"no sync of the directory", without(9), "sync of its directory"},
		{"sync of the directory before the rename", swap(8, 9), "sync of its directory"},
		{"sync of the directory behind the acknowledgement", swap(9, 10), "sync of its directory"},
	} {
		events, err := parseTrace(bufio.NewScanner(strings.NewReader(c.trace)))
		if err != nil {
			t.Fatal(err)
		}
		acks := acknowledged(events)
		if len(acks) != 1 {
			t.Fatalf("%s: %d acknowledgements, want 1", c.name, len(acks))
		}
		for name, ack := range acks {
			err := durable(events, ack, "/", path.Join("/r", name))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: error %v, want %q", c.name, err, c.want)
			}
		}
	}
}

// acknowledged gives the writes that say that a file is durable.
func acknowledged(events []syscallEvent) map[string]syscallEvent {
	acks := map[string]syscallEvent{}
	for _, e := range events {
		if name, ok := strings.CutPrefix(e.text, "ack "); ok && e.name == "write" && e.ok {
			acks[strings.TrimSuffix(name, `\n`)] = e
		}
	}
	return acks
}
