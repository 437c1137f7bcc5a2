package basic

import (
	"cmp"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// forgiven is how long it takes until half of the failures do not count any more.
	forgiven = 10 * time.Second
	// suspicious is how many failures make a suspect of a user at an address,
	// suspiciousAddress of all users at it.
	suspicious        = 3
	suspiciousAddress = 20
	// tallies is how many of each kind are told apart.
	tallies = 4096
)

// from is who asks from where, as far as it is told apart.
type from struct {
	pair
	connection string // the peer's address and port
}

// pair is a user at an address.
type pair struct {
	user    string
	address netip.Addr
}

// failures counts what was in vain: wrong passwords of each user at an address, at each
// address, and of each user; and what each connection asked, refusals included.
type failures struct {
	mu          sync.Mutex
	pairs       *lru.Cache[pair, tally]
	addresses   *lru.Cache[netip.Addr, tally]
	users       *lru.Cache[string, tally]
	connections *lru.Cache[string, tally]
}

// standing is how often somebody asked in vain lately, what tells most first.
type standing struct{ pair, address, user, connection float64 }

// suspect says whether they are to stand back. A user alone is no suspect: whoever likes
// can be wrong in their name.
func (s standing) suspect() bool { return s.pair >= suspicious || s.address >= suspiciousAddress }

// compare is negative where s goes before t.
func (s standing) compare(t standing) int {
	return cmp.Or(cmp.Compare(s.pair, t.pair), cmp.Compare(s.address, t.address), cmp.Compare(s.user, t.user), cmp.Compare(s.connection, t.connection))
}

// tally is a number that halves with time.
type tally struct {
	n     float64
	since time.Time
}

func (t tally) now(now time.Time) float64 {
	for age := now.Sub(t.since); age >= forgiven && t.n >= 0.5; age -= forgiven {
		t.n /= 2
	}
	if t.n < 0.5 {
		return 0
	}
	return t.n
}

func newFailures() *failures {
	return &failures{
		pairs: newTallies[pair](), addresses: newTallies[netip.Addr](), users: newTallies[string](), connections: newTallies[string](),
	}
}

func newTallies[K comparable]() *lru.Cache[K, tally] {
	c, err := lru.New[K, tally](tallies)
	if err != nil {
		panic("basic: a size of 0")
	}
	return c
}

// wrong counts a wrong password.
func (f *failures) wrong(who from) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	more(f.pairs, who.pair, now)
	more(f.addresses, who.address, now)
	more(f.users, who.user, now)
	more(f.connections, who.connection, now)
}

// refused counts a password that was not looked at: of those who are alike, who has not
// asked before goes first.
func (f *failures) refused(who from) {
	f.mu.Lock()
	defer f.mu.Unlock()
	more(f.connections, who.connection, time.Now())
}

// right clears a user at an address, not the address: whoever has one account may try
// others from it.
func (f *failures) right(who from) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pairs.Remove(who.pair)
	f.connections.Remove(who.connection)
}

func more[K comparable](c *lru.Cache[K, tally], key K, now time.Time) {
	t, _ := c.Get(key)
	c.Add(key, tally{t.now(now) + 1, now})
}

func count[K comparable](c *lru.Cache[K, tally], key K, now time.Time) float64 {
	t, _ := c.Peek(key)
	return t.now(now)
}

// standing gives how somebody stands now.
func (f *failures) standing(who from) standing {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	return standing{
		count(f.pairs, who.pair, now), count(f.addresses, who.address, now),
		count(f.users, who.user, now), count(f.connections, who.connection, now),
	}
}

// network is the part of an address that one machine may be thought to have: of IPv6
// it has the lower 64 bits to choose from.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
