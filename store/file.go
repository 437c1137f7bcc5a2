package store

import (
	"io"
	"os"
)

// Step is how much is moved at a time where something is to be looked at in
// between: a context, or whether a source has grown.
const Step = 1 << 20

// FileBody gives n bytes of f, from f's current offset on, and closes f. Its
// WriteTo hands the file itself to the destination's ReadFrom, in one call.
func FileBody(f *os.File, n int64) io.ReadCloser {
	return &fileBody{f: f, left: io.LimitedReader{R: f, N: n}}
}

type fileBody struct {
	f    *os.File
	left io.LimitedReader
}

func (b *fileBody) Read(p []byte) (int, error) {
	n, err := b.left.Read(p)
	if err == io.EOF && b.left.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// WriteTo implements io.WriterTo.
func (b *fileBody) WriteTo(w io.Writer) (int64, error) {
	n, err := io.Copy(w, &b.left)
	if err == nil && b.left.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *fileBody) Close() error { return b.f.Close() }
