package lifetime_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// allThere has each tag that it is asked for.
type allThere struct{ origin.Retirer }

func (allThere) Tagged(context.Context, origin.Repo, string) (origin.Tagged, error) {
	return origin.Tagged{}, nil
}

// What is pulled while pulls are written down is written down with them or after them, and
// all that is written can be read.
func TestPullsMeetSave(t *testing.T) {
	const pullers, repos, tags = 8, 20, 20
	pulls := lifetime.NewPulls(mem.NewRecords(), allThere{})
	save := func() {
		if err := pulls.Save(t.Context()); err != nil {
			t.Error(err)
		}
	}
	var in [repos]origin.Repo
	for i := range in {
		in[i] = repo(t, fmt.Sprintf("r%d", i))
	}
	var pulling, saving sync.WaitGroup
	ended := make(chan struct{})
	for p := range pullers {
		var refs [tags]origin.Ref
		for i := range refs {
			refs[i] = origintest.Ref(t, fmt.Sprintf("t%d-%d", p, i))
		}
		pulling.Go(func() {
			for _, repo := range in {
				for _, ref := range refs {
					pulls.Pulled(repo, ref)
				}
			}
		})
	}
	saving.Go(func() {
		for {
			select {
			case <-ended:
				return
			default:
				save()
			}
		}
	})
	pulling.Wait()
	close(ended)
	saving.Wait()
	save()
	for _, repo := range in {
		last, err := pulls.Last(t.Context(), repo)
		if err != nil || len(last) != pullers*tags {
			t.Errorf("%d of %d tags of %s were pulled: %v", len(last), pullers*tags, repo, err)
		}
	}
}

// Of a pull that was written down without its time it is known that it was not later.
func TestPullsWithoutTime(t *testing.T) {
	inTime(t, func(r *rig) {
		pulls := lifetime.NewPulls(r.records, allThere{})
		written := time.Now()
		for shard := range 16 {
			if _, err := r.records.Put(r.t.Context(), fmt.Sprintf("pulled/r/_/%x", shard), []byte("a 0\n"), store.Always()); err != nil {
				r.t.Fatal(err)
			}
		}
		r.age(time.Hour)
		pulls.Pulled(repo(r.t, "r"), origintest.Ref(r.t, "b"))
		if err := pulls.Save(r.t.Context()); err != nil {
			r.t.Error(err)
		}
		last, err := pulls.Last(r.t.Context(), repo(r.t, "r"))
		if err != nil || !last["a"].Equal(written) || !last["b"].Equal(time.Now()) {
			r.t.Errorf("%v, %v", last, err)
		}
		for shard := range 16 {
			if _, err := r.records.Put(r.t.Context(), fmt.Sprintf("pulled/r/_/%x", shard), []byte("a"), store.Always()); err != nil {
				r.t.Fatal(err)
			}
		}
		if last, err := pulls.Last(r.t.Context(), repo(r.t, "r")); !errors.Is(err, origin.ErrDamaged) {
			r.t.Errorf("of what is damaged: %v, %v", last, err)
		}
	})
}
