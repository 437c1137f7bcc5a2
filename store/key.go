package store

import "strings"

// maxComponent is the longest file name of the usual file systems, in bytes.
const maxComponent = 255

// ValidKey reports whether key may name a record: one or more components
// separated by single slashes, each 1 to 255 bytes long, neither "." nor "..",
// and without control characters, "%", "\" or DEL. Backends refuse other keys
// with ErrKey, so that a key can be a path below a directory or a bucket.
func ValidKey(key string) bool {
	for c := range strings.SplitSeq(key, "/") {
		if c == "" || c == "." || c == ".." || len(c) > maxComponent {
			return false
		}
		for i := range len(c) {
			if c[i] < 0x21 || c[i] == 0x7f || c[i] == '\\' || c[i] == '%' {
				return false
			}
		}
	}
	return true
}
