package disk_test

import (
	"path"
	"strings"
	"testing"

	"github.com/weir-registry/weir/store/disk/disktest"
)

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
