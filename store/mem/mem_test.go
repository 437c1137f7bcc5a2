package mem_test

import (
	"testing"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
	"github.com/weir-registry/weir/store/storetest"
)

func TestBlobs(t *testing.T) {
	storetest.Blobs(t, func(*testing.T) store.Blobs { return mem.NewBlobs() })
}

func TestRecords(t *testing.T) {
	storetest.Records(t, func(*testing.T) store.Records { return mem.NewRecords() })
}
