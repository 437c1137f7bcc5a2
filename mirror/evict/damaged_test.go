package evict_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/mirror/evict"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// rotten records give what is left of use as damaged, until it is written anew.
type rotten struct {
	*mem.Records
	mended map[string]bool
}

func (r rotten) Get(ctx context.Context, key string) (store.Record, error) {
	if strings.HasPrefix(key, "evict/use/") && !r.mended[key] {
		return store.Record{Data: []byte("what is left")}, store.ErrDamaged
	}
	return r.Records.Get(ctx, key)
}

func (r rotten) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	version, err := r.Records.Put(ctx, key, data, if_)
	if err == nil {
		r.mended[key] = true
	}
	return version, err
}

// What is written down of use may be damaged: it is recency that is lost, and neither what
// there is nor that it is kept within its budget.
func TestDamagedUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, shelf: newShelf(), records: mem.NewRecords(), opts: max100()}
		r.put("a", 90)
		kept := rotten{r.records, map[string]bool{}}
		r.Cache = evict.New(r.shelf, kept, r.opts)
		r.Start()
		synctest.Wait()
		if got := r.Bytes(); got != 90 {
			t.Errorf("%d bytes are counted, want 90", got)
		}
		r.pulls(50, "b")
		r.want("b")
		last := time.Now().Truncate(time.Millisecond)
		r.close() // fails if it cannot be written down
		r.Cache = evict.New(r.shelf, kept, r.opts)
		time.Sleep(time.Hour)
		r.Start()
		synctest.Wait()
		if got, ok := r.LastUse(blob("b")); !ok || !got.Equal(last) {
			t.Errorf("b was used at %v, %v, want %v", got, ok, last)
		}
		r.close()
	})
}
