//go:build !linux

package fill

import "os"

// room is found out by trying.
func room(*os.Root, int64) bool { return true }

// shared is to be on the safe side: what an earlier process left is not used.
func shared(*os.File) bool { return true }
