package coord_test

import (
	"testing"
	"time"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/mem"
)

// replica makes a party of those that share records, by that server. It has a minute's
// patience where nobody says: a machine that is busy is no server that is away.
func replica(t testing.TB, s *coordtest.Server, records store.Records, patience ...time.Duration) *coord.Redis {
	t.Helper()
	key, err := coord.SharedKey(t.Context(), records)
	if err != nil {
		t.Fatal(err)
	}
	r, err := coord.NewRedis(coord.RedisOptions{
		URL: func() (string, error) { return s.URL(), nil }, Key: key, Records: records,
		Patience: append(patience, time.Minute)[0],
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func party(r *coord.Redis) coordtest.Party { return coordtest.Party{Locker: r, Cache: r, Notify: r} }

// overRedis gives pairs on one server: replicas of different stores share nothing.
func overRedis(s *coordtest.Server) coordtest.Pair {
	return func(t *testing.T) (one, other coordtest.Party) {
		records := mem.NewRecords()
		return party(replica(t, s, records)), party(replica(t, s, records))
	}
}

func TestRedisLocks(t *testing.T)   { coordtest.Locks(t, overRedis(coordtest.Start(t))) }
func TestRedisValues(t *testing.T)  { coordtest.Values(t, overRedis(coordtest.Start(t))) }
func TestRedisChanges(t *testing.T) { coordtest.Changes(t, overRedis(coordtest.Start(t))) }
