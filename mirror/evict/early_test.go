package evict

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store/mem"
)

// While the origin cannot say what there is, what clients ask for costs no more memory
// than so much, however many digests they make up; what was used first is remembered.
func TestUseBeforeItIsKnown(t *testing.T) {
	c := New(nil, mem.NewRecords(), Options{})
	name := func(i int) digest.Digest { return digest.FromString(fmt.Sprint(i)) }
	for i := range earliest + 1000 {
		c.Reading(origin.Repo{}, name(i))()
		c.Image(origin.Repo{}, name(-1), []digest.Digest{name(-2 - i)})
	}
	if n := len(c.early); n != earliest {
		t.Errorf("%d are remembered, want %d", n, earliest)
	}
	if _, ok := c.LastUse(name(0)); !ok {
		t.Error("the first one is forgotten")
	}
}
