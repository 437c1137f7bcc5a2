package coord

import (
	"context"

	"github.com/weir-registry/weir/store"
)

// Announce gives records whose changes are announced: after they are durable, and before
// whoever made them is told. What may have changed, since its write failed, is announced
// too. Only those keys are announced that wanted reports true for.
func Announce(records store.Records, to Notify, wanted func(key string) bool) store.Records {
	a := announcer{records, to, wanted}
	if b, ok := records.(store.Batcher); ok {
		return batchAnnouncer{a, b}
	}
	return a
}

type announcer struct {
	store.Records
	to     Notify
	wanted func(key string) bool
}

func (a announcer) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	version, err := a.Records.Put(ctx, key, data, if_)
	a.announce(ctx, key)
	return version, err
}

func (a announcer) Delete(ctx context.Context, key string, if_ store.Condition) error {
	err := a.Records.Delete(ctx, key, if_)
	a.announce(ctx, key)
	return err
}

func (a announcer) announce(ctx context.Context, key string) {
	if a.wanted(key) {
		a.to.Publish(ctx, key)
	}
}

// batchAnnouncer announces a batch at once.
type batchAnnouncer struct {
	announcer
	batcher store.Batcher
}

// PutAll implements store.Batcher.
func (a batchAnnouncer) PutAll(ctx context.Context, writes []store.Write) error {
	err := a.batcher.PutAll(ctx, writes)
	var keys []string
	for _, w := range writes {
		if a.wanted(w.Key) {
			keys = append(keys, w.Key)
		}
	}
	if len(keys) > 0 {
		a.to.Publish(ctx, keys...)
	}
	return err
}
