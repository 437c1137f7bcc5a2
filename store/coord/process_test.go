package coord_test

import (
	"testing"

	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/coord/coordtest"
)

func inProcess(*testing.T) (one, other coordtest.Party) {
	p := coord.NewProcess()
	return coordtest.Party{Locker: p, Cache: p, Notify: p.Member()}, coordtest.Party{Locker: p, Cache: p, Notify: p.Member()}
}

func TestProcessLocks(t *testing.T)   { coordtest.Locks(t, inProcess) }
func TestProcessValues(t *testing.T)  { coordtest.Values(t, inProcess) }
func TestProcessChanges(t *testing.T) { coordtest.Changes(t, inProcess) }
