package disk_test

import (
	"runtime"
	"testing"

	"github.com/weir-registry/weir/store/disk"
)

func TestSpace(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("not known here")
	}
	s, err := disk.Open(t.TempDir(), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if free, total, err := s.Space(); err != nil || free < 0 || total < free || total < 1<<20 {
		t.Errorf("%d bytes of %d are free, %v", free, total, err)
	}
}
