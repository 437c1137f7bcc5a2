package store

// Range is a stretch of a blob. The zero value is the whole blob.
type Range struct {
	Off int64 // first byte; negative: that many bytes before the end
	Len int64 // number of bytes; 0: to the end
}

// Whole reports whether the range is the zero value.
func (r Range) Whole() bool { return r == Range{} }

// Resolve gives the stretch's offset and length inside a blob of size bytes.
// A range that goes beyond the end is shortened to it. Errors: ErrRange if no
// byte of it is inside (the whole of an empty blob excepted).
func (r Range) Resolve(size int64) (off, n int64, err error) {
	if r.Whole() {
		return 0, size, nil
	}
	off = r.Off
	if off < 0 {
		off = max(0, size+off)
	}
	if off >= size || r.Len < 0 {
		return 0, 0, ErrRange
	}
	n = size - off
	if r.Len > 0 {
		n = min(n, r.Len)
	}
	return off, n, nil
}
