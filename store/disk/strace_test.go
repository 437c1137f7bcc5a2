package disk_test

import (
	"path"
	"strings"
	"testing"

	"github.com/weir-registry/weir/store/disk/disktest"
)

// goodTrace is a blob's life; each line that a fault of the store could leave out
// is needed.
const goodTrace = `10 mkdirat(3</r>, "blobs", 0700) = 0
10 openat(3</r>, ".", O_RDONLY) = 4</r>
10 fsync(4</r>) = 0
10 openat(5</r/tmp>, "n1", O_WRONLY|O_CREAT|O_EXCL, 0600) = 6</r/tmp/n1>
10 write(6</r/tmp/n1>, "some \"data\"\n", 12) = 12
11 fsync(6</r/tmp/n1> <unfinished ...>
12 fsync(9</r/tmp/n2>) = 0
11 <... fsync resumed>) = 0
10 renameat(5</r/tmp>, "n1", 7</r/blobs>, "k") = 0
11 fsync(7</r/blobs>) = 0
10 write(1<pipe:[77]>, "ack blobs/k\n", 14) = 14
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
		{"no sync of the new directory's parent", without(2), "parent of /r/blobs"},
		{"sync of the parent before it was made", swap(0, 2), "parent of /r/blobs"},
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
		events, err := disktest.ParseTrace(strings.NewReader(c.trace))
		if err != nil {
			t.Fatal(err)
		}
		acks := acknowledged(events)
		if len(acks) != 1 {
			t.Fatalf("%s: %d acknowledgements, want 1", c.name, len(acks))
		}
		for name, ack := range acks {
			err := disktest.Durable(events, ack, "/", path.Join("/r", name))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: error %v, want %q", c.name, err, c.want)
			}
		}
	}
}

// loggedTrace is a record's life.
const loggedTrace = `10 mkdirat(3</r>, "log", 0700) = 0
10 fsync(4</r>) = 0
10 openat(5</r/log>, "1", O_WRONLY|O_CREAT|O_EXCL, 0600) = 6</r/log/1>
10 fsync(5</r/log>) = 0
10 write(7</r/tmp/n1>, "0123\ndata", 9) = 9
10 write(6</r/log/1>, "\1\2\0k0123\ndata\5", 13) = 13
10 fsync(6</r/log/1>) = 0
10 renameat(8</r/tmp>, "n1", 9</r/records>, "k") = 0
10 write(1<pipe:[77]>, "ack records/k\n", 14) = 14
10 syncfs(3</r>) = 0
10 unlinkat(5</r/log>, "1", 0) = 0
`

func TestLoggedChecksTheOrder(t *testing.T) {
	lines := strings.SplitAfter(loggedTrace, "\n")
	swap := func(i, j int) string {
		l := append([]string(nil), lines...)
		l[i], l[j] = l[j], l[i]
		return strings.Join(l, "")
	}
	without := func(i int) string {
		return strings.Join(append(append([]string(nil), lines[:i]...), lines[i+1:]...), "")
	}
	for _, c := range []struct{ name, trace, want string }{
		{"good", loggedTrace, ""},
		{"no sync of the new directory's parent", without(1), "parent of /r/log"},
		{"no sync of the log's name", without(3), "the name of /r/log/1"},
		{"sync of the log's name before it has it", swap(2, 3), "the name of /r/log/1"},
		{"nothing in the log", without(5), "before a log has it"},
		{"another version in the log", strings.Replace(loggedTrace, "k0123", "k0124", 1), "before a log has it"},
		{"another record in the log", strings.Replace(loggedTrace, "k0123", "j0123", 1), "before a log has it"},
		{"in the log behind the rename", swap(5, 7), "before a log has it"},
		{"no sync of the log", without(6), "without a sync of /r/log/1"},
		{"sync of the log fails", strings.Replace(loggedTrace, "log/1>) = 0", "log/1>) = -1 EIO", 1), "without a sync of /r/log/1"},
		{"sync of the log before the write", swap(5, 6), "without a sync of /r/log/1"},
		{"sync of the log behind the rename", swap(6, 7), "without a sync of /r/log/1"},
		{"no rename", without(7), "without a rename"},
		{"rename behind the acknowledgement", swap(7, 8), "without a rename"},
		{"log removed, nothing synced", without(9), "not all is synced"},
		{"log removed before all is synced", swap(9, 10), "not all is synced"},
	} {
		events, err := disktest.ParseTrace(strings.NewReader(c.trace))
		if err != nil {
			t.Fatal(err)
		}
		acks := acknowledged(events)
		if len(acks) != 1 {
			t.Fatalf("%s: %d acknowledgements, want 1", c.name, len(acks))
		}
		for name, ack := range acks {
			err := durable(events, ack, "/", "/r", name)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: error %v, want %q", c.name, err, c.want)
			}
		}
	}
}

// acknowledged gives the writes that say that a file is durable.
func acknowledged(events []disktest.Call) map[string]disktest.Call {
	acks := map[string]disktest.Call{}
	for _, e := range events {
		if name, ok := strings.CutPrefix(e.Text, "ack "); ok && e.Name == "write" && e.OK {
			acks[strings.TrimSuffix(name, `\n`)] = e
		}
	}
	return acks
}
