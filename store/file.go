package store

import (
	"io"
	"os"
)

// Step is the most that a Body writes to its destination in one call, so that
// whoever owns the destination can renew its deadline and see progress.
const Step = 1 << 20

// FileBody gives n bytes of f, from f's current offset on, and closes f. Its
// WriteTo hands the file itself to the destination's ReadFrom.
func FileBody(f *os.File, n int64) io.ReadCloser { return &fileBody{f: f, left: n} }

type fileBody struct {
	f    *os.File
	left int64
}

func (b *fileBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	n, err := b.f.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// WriteTo implements io.WriterTo.
func (b *fileBody) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for b.left > 0 {
		n, err := io.CopyN(w, b.f, min(b.left, Step))
		total += n
		b.left -= n
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func (b *fileBody) Close() error { return b.f.Close() }
