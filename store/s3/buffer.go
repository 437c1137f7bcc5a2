package s3

import (
	"errors"
	"io"
	"os"
)

// inMemory is how much of a buffer is kept in memory, in bytes. What is larger is in a
// file, all of it.
const inMemory = 64 << 10

// buffer holds bytes that were received and not sent yet. Its file has no name, and goes
// with the process.
type buffer struct {
	dir  string // "" = the system's
	mem  []byte
	file *os.File
	size int64
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	if b.file == nil && len(b.mem)+len(p) <= inMemory {
		b.mem = append(b.mem, p...)
		b.size += int64(len(p))
		return len(p), nil
	}
	if b.file == nil {
		if err := b.spill(); err != nil {
			return 0, err
		}
	}
	n, err := b.file.WriteAt(p, b.size)
	b.size += int64(n)
	return n, err
}

// spill moves what is in memory into a file.
func (b *buffer) spill() error {
	f, err := os.CreateTemp(b.dir, ".weir-*")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	if _, err := f.WriteAt(b.mem, 0); err != nil {
		return errors.Join(err, f.Close())
	}
	b.file, b.mem = f, nil
	return nil
}

// ReadAt implements io.ReaderAt.
func (b *buffer) ReadAt(p []byte, off int64) (int, error) {
	if b.file != nil {
		return b.file.ReadAt(p, off)
	}
	if off >= int64(len(b.mem)) {
		return 0, io.EOF
	}
	n := copy(p, b.mem[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// reader reads all of it. The SDK reads it twice, to sign it and to send it.
func (b *buffer) reader() *io.SectionReader { return io.NewSectionReader(b, 0, b.size) }

// close lets go of the file. What it says does not matter: nothing is read from it again.
func (b *buffer) close() {
	if b.file != nil {
		_ = b.file.Close()
	}
	b.file, b.mem = nil, nil
}

// joined is one text behind another, to be read as one.
type joined struct {
	head string
	tail *buffer
}

// ReadAt implements io.ReaderAt.
func (j joined) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(j.head)) {
		if n = copy(p, j.head[off:]); n == len(p) {
			return n, nil
		}
	}
	m, err := j.tail.ReadAt(p[n:], off+int64(n)-int64(len(j.head)))
	return n + m, err
}

// text is a short one.
func text(s string) joined { return joined{s, &buffer{}} }

func (j joined) reader() *io.SectionReader { return io.NewSectionReader(j, 0, j.size()) }

func (j joined) size() int64 { return int64(len(j.head)) + j.tail.size }
