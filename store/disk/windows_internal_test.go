package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// However few names are held at once, all are given, in order and once.
func TestWindows(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for i := range 300 {
		name := fmt.Sprintf("%03d", i*7919%1000)
		if i%3 == 0 {
			if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
			want = append(want, name+"/")
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	if err := os.Symlink("000", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, n := range []int{1, 2, 7, 99, 100, 149, 150, 299, 300, 301, 1000} {
		var got []string
		for names, err := range windows(root, n) {
			if err != nil {
				t.Fatal(err)
			}
			if len(names) > 2*n {
				t.Errorf("%d names at once, and no more than %d are wanted", len(names), 2*n)
			}
			got = append(got, names...)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d at a time: %d names, want %d in order", n, len(got), len(want))
		}
	}
}
