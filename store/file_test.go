package store_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/weir-registry/weir/store"
)

// file gives a file of data, positioned at off.
func file(t *testing.T, data []byte, off int64) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	return f
}

// steps is a destination that notes in which steps a file is handed to it.
type steps struct {
	bytes.Buffer
	sizes []int64
	files int
}

func (s *steps) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		if _, ok := l.R.(*os.File); ok {
			s.files++
		}
	}
	n, err := s.Buffer.ReadFrom(r)
	s.sizes = append(s.sizes, n)
	return n, err
}

// The destination's ReadFrom gets the file itself, limited, which is what lets
// the kernel feed a socket from it.
func TestFileBodyHandsOverTheFile(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), (2*store.Step+4096)/16)
	body := store.FileBody(file(t, data, 1000), int64(len(data)-2000))
	var got steps
	n, err := io.Copy(&got, body)
	if err != nil || n != int64(len(data)-2000) || !bytes.Equal(got.Bytes(), data[1000:len(data)-1000]) {
		t.Errorf("copied %d bytes, %v; want %d of the file", n, err, len(data)-2000)
	}
	if got.files != 1 || len(got.sizes) != 1 {
		t.Errorf("%d files in steps of %d, want 1", got.files, got.sizes)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	if _, err := body.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read at the end: %v, want EOF", err)
	}
}

func TestFileBodyRead(t *testing.T) {
	body := store.FileBody(file(t, []byte("0123456789"), 2), 5)
	defer body.Close()
	got, err := io.ReadAll(io.MultiReader(io.LimitReader(body, 2), body))
	if err != nil || string(got) != "23456" {
		t.Errorf("read %q, %v", got, err)
	}
}

// A file that is shorter than was promised ends with an error, and not with EOF.
func TestFileBodyOfAShortFile(t *testing.T) {
	for name, read := range map[string]func(io.ReadCloser) (int64, error){
		"Read": func(b io.ReadCloser) (int64, error) {
			got, err := io.ReadAll(struct{ io.Reader }{b})
			return int64(len(got)), err
		},
		"WriteTo": func(b io.ReadCloser) (int64, error) { return io.Copy(new(bytes.Buffer), b) },
	} {
		body := store.FileBody(file(t, []byte("0123456789"), 0), 11)
		if n, err := read(body); n != 10 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %d bytes, %v; want 10 and ErrUnexpectedEOF", name, n, err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
}
