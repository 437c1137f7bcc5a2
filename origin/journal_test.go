package origin_test

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/mem"
)

// failing fails to write some records.
type failing struct {
	store.Records
	errs map[string]error
}

func (f failing) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	if err := f.errs[key]; err != nil {
		return "", err
	}
	return f.Records.Put(ctx, key, data, if_)
}

// Whatever fails, the rest is written, and somebody told; that there was no room is said where
// nothing worse was.
func TestEntryWrite(t *testing.T) {
	for _, c := range []struct {
		errs map[string]error
		want error
	}{
		{nil, nil},
		{map[string]error{"a": syscall.ENOSPC, "b": nil}, syscall.ENOSPC},
		{map[string]error{"b": syscall.ENOSPC}, syscall.ENOSPC},
		{map[string]error{"a": syscall.ENOSPC, "b": syscall.EIO}, syscall.EIO},
		{map[string]error{"a": syscall.EIO, "b": syscall.ENOSPC}, syscall.EIO},
	} {
		told := 0
		e := origin.Entry{Written: func() { told++ }}
		for _, key := range []string{"a", "b", "c"} {
			e.Writes = append(e.Writes, store.Write{Key: key})
		}
		records := failing{mem.NewRecords(), c.errs}
		err := e.Write(t.Context(), records)
		if !errors.Is(err, c.want) || store.NoRoom(err) != store.NoRoom(c.want) || told != 1 {
			t.Errorf("%v: %v, told %d times", c.errs, err, told)
		}
		for _, key := range []string{"a", "b", "c"} {
			if _, err := records.Get(t.Context(), key); (err == nil) != (c.errs[key] == nil) {
				t.Errorf("%v: %s: %v", c.errs, key, err)
			}
		}
	}
}
