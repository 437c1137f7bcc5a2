package fill

import (
	"os"
	"syscall"
)

// room reports whether a file of size bytes fits where root lies. Where that cannot
// be found out it is tried.
func room(root *os.Root, size int64) bool {
	d, err := root.Open(".")
	if err != nil {
		return true
	}
	defer func() { _ = d.Close() }() // it was only read
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(d.Fd()), &st); err != nil || st.Bsize <= 0 {
		return true
	}
	return st.Bavail > uint64(size)/uint64(st.Bsize)
}

// shared reports whether a file has more than one name.
func shared(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return true
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return !ok || st.Nlink > 1
}
