package disk_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-registry/weir/store/disk"
)

// Whoever holds a store is reached in its directory, however long its path is, by its
// owner alone; what a process left that was killed is in nobody's way.
func TestListen(t *testing.T) {
	for name, dir := range map[string]string{
		"short": t.TempDir(),
		"long":  filepath.Join(t.TempDir(), strings.Repeat("long", 30)),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := disk.Dial(t.Context(), dir); !errors.Is(err, disk.ErrNoListener) {
				t.Errorf("nothing there: %v", err)
			}
			s, err := disk.Open(dir, disk.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := os.WriteFile(filepath.Join(dir, ".sock"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				if _, err := disk.Dial(t.Context(), dir); !errors.Is(err, disk.ErrNoListener) {
					t.Errorf("what was left there: %v", err)
				}
				l, err := s.Listen()
				if err != nil {
					t.Fatal(err)
				}
				if fi, err := os.Lstat(filepath.Join(dir, ".sock")); err != nil || fi.Mode() != os.ModeSocket|0o600 {
					t.Errorf("socket: %v, %v", fi.Mode(), err)
				}
				talk(t, l, dir)
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				if _, err := os.Lstat(filepath.Join(dir, ".sock")); err == nil {
					t.Error("the socket is there after the end")
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func talk(t *testing.T, l net.Listener, dir string) {
	t.Helper()
	conn, err := disk.Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := there.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	if err := there.Close(); err != nil {
		t.Error(err)
	}
	if said, err := io.ReadAll(conn); string(said) != "hello" || err != nil {
		t.Errorf("%q, %v", said, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}
