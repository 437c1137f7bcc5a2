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

// CopyN copies n bytes of a body to w, as [io.CopyN] does. Those of a FileBody are handed
// over as its WriteTo does with all that it has.
func CopyN(w io.Writer, body io.Reader, n int64) (int64, error) {
	b, ok := body.(*fileBody)
	if !ok {
		return io.CopyN(w, body, n)
	}
	part := io.LimitedReader{R: b.left.R, N: min(n, b.left.N)}
	copied, err := io.Copy(w, &part)
	b.left.N -= copied
	if err == nil && copied < n {
		err = io.ErrUnexpectedEOF
	}
	return copied, err
}

func (b *fileBody) Close() error { return b.f.Close() }
