package local_test

import (
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/mem"
)

func TestRegistryInMemory(t *testing.T) {
	origintest.Test(t, func(t testing.TB) origin.Registry {
		return open(t, local.Options{Delete: true})
	})
}

func TestRegistryOnDisk(t *testing.T) {
	origintest.Test(t, func(t testing.TB) origin.Registry {
		s, err := disk.Open(t.TempDir(), disk.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		r, err := local.New(s.Blobs(), s.Records(), local.Options{Delete: true})
		if err != nil {
			t.Fatal(err)
		}
		return r
	})
}

// open gives an empty registry in memory.
func open(t testing.TB, o local.Options) *local.Registry {
	t.Helper()
	r, err := local.New(mem.NewBlobs(), mem.NewRecords(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
