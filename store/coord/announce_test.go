package coord_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/mem"
)

// storeIs is a Notify that looks whether what is announced is in the store already.
type storeIs struct {
	coord.Notify
	records store.Records
	said    []string
}

func (s *storeIs) Publish(ctx context.Context, keys ...string) {
	for _, k := range keys {
		rec, err := s.records.Get(ctx, k)
		if err != nil {
			k += " gone"
		} else {
			k += " " + string(rec.Data)
		}
		s.said = append(s.said, k)
	}
	s.said = append(s.said, ";")
}

// batches is records that take several writes at once.
type batches struct{ store.Records }

func (b batches) PutAll(ctx context.Context, writes []store.Write) error {
	for _, w := range writes {
		if _, err := b.Put(ctx, w.Key, w.Data, w.If); err != nil {
			return err
		}
	}
	return nil
}

// TestAnnounce: what was written is announced once it is there, and nothing else.
func TestAnnounce(t *testing.T) {
	inner := mem.NewRecords()
	to := &storeIs{records: inner}
	wanted := func(key string) bool { return !strings.HasPrefix(key, "lease/") }
	r := coord.Announce(batches{inner}, to, wanted)
	ctx := t.Context()
	if _, err := r.Put(ctx, "a", []byte("1"), store.Absent()); err != nil {
		t.Fatal(err)
	}
	_, err := r.Put(ctx, "a", []byte("2"), store.Absent()) // somebody may still have written it
	if !errors.Is(err, store.ErrConflict) {
		t.Fatal(err)
	}
	if _, err := r.Put(ctx, "lease/a", []byte("1"), store.Always()); err != nil {
		t.Fatal(err)
	}
	err = r.(store.Batcher).PutAll(ctx, []store.Write{{Key: "b", Data: []byte("3")}, {Key: "lease/b"}, {Key: "c", Data: []byte("4")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(ctx, "a", store.Always()); err != nil {
		t.Fatal(err)
	}
	want := []string{"a 1", ";", "a 1", ";", "b 3", "c 4", ";", "a gone", ";"}
	if !slices.Equal(to.said, want) {
		t.Errorf("announced %q, want %q", to.said, want)
	}
	if _, ok := coord.Announce(struct{ store.Records }{inner}, to, wanted).(store.Batcher); ok {
		t.Error("batches over records that have none")
	}
}

// TestSharedKey: processes that come at once agree on one key, and what is no key is none.
func TestSharedKey(t *testing.T) {
	records := mem.NewRecords()
	keys := make([]string, 8)
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			key, err := coord.SharedKey(t.Context(), records)
			if err != nil {
				t.Error(err)
			}
			keys[i] = string(key)
		})
	}
	all.Wait()
	if slices.Sort(keys); len(keys[0]) != 32 || keys[0] != keys[len(keys)-1] {
		t.Errorf("keys %q", keys)
	}
	if _, err := records.Put(t.Context(), coord.KeyRecord, []byte("none"), store.Always()); err != nil {
		t.Fatal(err)
	}
	if _, err := coord.SharedKey(t.Context(), records); err == nil {
		t.Error("a damaged key")
	}
}

// TestURLs: what is no URL of a server is refused, and not quoted.
func TestURLs(t *testing.T) {
	for _, good := range []string{"redis://h", "redis://:secret@h:1/2", "rediss://u:p@h", "unix:///run/redis.sock"} {
		if err := coord.CheckURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "http://secret@h", "secret", "redis://u:sec%ret@h:x"} {
		if err := coord.CheckURL(bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestTheStoreIsAway: what neither Redis nor the store takes is told once the store does.
func TestTheStoreIsAway(t *testing.T) {
	s := coordtest.Start(t)
	records := &failing{Records: mem.NewRecords()}
	one, other := replica(t, s, records), replica(t, s, records)
	heard, own := coordtest.Listen(t, other), coordtest.Listen(t, one)
	s.Stop()
	coordtest.Eventually(t, "nobody is current", func() bool { return !heard.Current() && !own.Current() })
	records.set(true)
	one.Publish(t.Context(), "k")
	missed := heard.Missed()
	records.set(false)
	coordtest.Eventually(t, "it is told", func() bool { return heard.Missed() > missed })
}

type failing struct {
	store.Records
	mu   sync.Mutex
	fail bool
}

func (f *failing) set(fail bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *failing) Put(ctx context.Context, key string, data []byte, if_ store.Condition) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail {
		return "", errors.New("away")
	}
	return f.Records.Put(ctx, key, data, if_)
}
