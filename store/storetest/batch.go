package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/weir-registry/weir/store"
)

// batchCases are for Records that are a store.Batcher; others have nothing to show.
var batchCases = []recordCase{
	{"batch", batched(func(t *testing.T, r store.Records, b store.Batcher) {
		old := set(t, r, "a/2", "old", store.Always())
		must(t, b.PutAll(t.Context(), []store.Write{
			{Key: "a/1", Data: []byte("one"), If: store.Absent()},
			{Key: "a/2", Data: []byte("two"), If: store.Version(old)},
			{Key: "b/c/3", Data: nil},
		}))
		wantValue(t, r, "a/1", "one")
		wantValue(t, r, "a/2", "two")
		wantValue(t, r, "b/c/3", "")
		refused(t, r, "a/2", store.Version(old))
		// Each has a version of its own, and is as good as any other.
		for _, key := range []string{"a/1", "a/2", "b/c/3"} {
			rec, err := r.Get(t.Context(), key)
			must(t, err)
			wantRecord(t, r, key, "next", set(t, r, key, "next", store.Version(rec.Version)))
		}
	})},
	{"batch: of nothing, and of one", batched(func(t *testing.T, r store.Records, b store.Batcher) {
		must(t, b.PutAll(t.Context(), nil))
		must(t, b.PutAll(t.Context(), []store.Write{{Key: "a", Data: []byte("one")}}))
		wantValue(t, r, "a", "one")
	})},
	{"batch: the caller's bytes stay the caller's", batched(func(t *testing.T, r store.Records, b store.Batcher) {
		data := []byte("value")
		must(t, b.PutAll(t.Context(), []store.Write{{Key: "a", Data: data}, {Key: "b", Data: data}}))
		data[0] = 'X'
		wantValue(t, r, "a", "value")
		wantValue(t, r, "b", "value")
	})},
	{"batch: one condition not met, none is made", batched(func(t *testing.T, r store.Records, b store.Batcher) {
		version := set(t, r, "b", "value", store.Always())
		for _, if_ := range []store.Condition{store.Absent(), store.Version(version + "0")} {
			for at := range 3 {
				writes := []store.Write{{Key: "a", Data: []byte("x")}, {Key: "c/d", Data: []byte("x"), If: store.Absent()}}
				writes = append(writes[:at], append([]store.Write{{Key: "b", Data: []byte("x"), If: if_}}, writes[at:]...)...)
				wantErr(t, b.PutAll(t.Context(), writes), store.ErrConflict)
				wantRecord(t, r, "b", "value", version)
				if got := list(t, r, "", ""); len(got) != 1 {
					t.Fatalf("refused at %d, and there is %v", at, got)
				}
			}
		}
	})},
	{"batch: keys that are none", batched(func(t *testing.T, r store.Records, b store.Batcher) {
		set(t, r, "d", "value", store.Always())
		for _, key := range []string{"", "../x", "a//b", "d/e"} {
			wantErr(t, b.PutAll(t.Context(), []store.Write{{Key: "a", Data: []byte("x")}, {Key: key, Data: []byte("x")}}), store.ErrKey)
		}
		wantValue(t, r, "d", "value")
	})},
	{"batch: a context that is over", batched(func(t *testing.T, r store.Records, b store.Batcher) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantErr(t, b.PutAll(ctx, []store.Write{{Key: "a"}, {Key: "b"}}), context.Canceled)
		if got := list(t, r, "", ""); len(got) != 0 {
			t.Errorf("List = %v, want none", got)
		}
	})},
	{"batch: seen in its order", batched(seenInOrder)},
	{"batch: of many who want the same", batched(sameBatches)},
}

func batched(run func(*testing.T, store.Records, store.Batcher)) func(*testing.T, store.Records) {
	return func(t *testing.T, r store.Records) {
		b, ok := r.(store.Batcher)
		if !ok {
			t.Skip("no store.Batcher")
		}
		run(t, r, b)
	}
}

// seenInOrder reads the later record first: the earlier one is at least as new then.
func seenInOrder(t *testing.T, r store.Records, b store.Batcher) {
	const rounds = 200
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		defer close(done)
		for i := range rounds {
			value := fmt.Appendf(nil, "%06d", i)
			if err := b.PutAll(context.Background(), []store.Write{{Key: "z/first", Data: value}, {Key: "a/second", Data: value}}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer writer.Wait()
	for last := ""; last != fmt.Sprintf("%06d", rounds-1); {
		written := false // before the look: what is not there then never comes
		select {
		case <-done:
			written = true
		default:
		}
		second, err := r.Get(t.Context(), "a/second")
		if err != nil && !written {
			continue // not yet there
		}
		must(t, err)
		first, err := r.Get(t.Context(), "z/first")
		must(t, err)
		if string(first.Data) < string(second.Data) || string(second.Data) < last {
			t.Fatalf("seen %s, then %s with %s before it", last, second.Data, first.Data)
		}
		last = string(second.Data)
	}
}

// sameBatches lets batches meet that name the same keys in different orders: one of
// each round is made, whole, and none waits for another for ever.
func sameBatches(t *testing.T, r store.Records, b store.Batcher) {
	const rounds, writers = 30, 8
	for round := range rounds {
		keys := []string{fmt.Sprintf("%d/a", round), fmt.Sprintf("%d/b", round), fmt.Sprintf("%d/c", round)}
		errs := make([]error, writers)
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				var writes []store.Write
				for i := range keys {
					writes = append(writes, store.Write{Key: keys[(i+w)%len(keys)], Data: fmt.Append(nil, w), If: store.Absent()})
				}
				errs[w] = b.PutAll(context.Background(), writes)
			})
		}
		all.Wait()
		winner := -1
		for w, err := range errs {
			if err != nil {
				wantErr(t, err, store.ErrConflict)
			} else if winner >= 0 {
				t.Fatalf("%d and %d both were first", winner, w)
			} else {
				winner = w
			}
		}
		if winner < 0 {
			t.Fatal("nobody was first")
		}
		for _, key := range keys {
			wantValue(t, r, key, fmt.Sprint(winner))
		}
	}
}
