package disk

import (
	"fmt"
	"syscall"
)

// Space gives the bytes that the store's file system has free for this process, and
// those that it has in all for it.
func (s *Store) Space() (free, total int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(s.lock.Fd()), &st); err != nil {
		return 0, 0, fmt.Errorf("space of %s: %w", s.dir, err)
	}
	free = int64(st.Bavail) * st.Bsize
	return free, int64(st.Blocks-st.Bfree)*st.Bsize + free, nil
}
