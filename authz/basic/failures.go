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
	// tallies is how many users at an address, and how many addresses, are told apart.
	tallies = 4096
)

// from is who asks from where, as far as it is told apart.
type from struct {
	user    string
	address netip.Addr
}

// failures counts wrong passwords, for each user at an address and for each address.
type failures struct {
	mu    sync.Mutex
	pairs *lru.Cache[from, tally]
	at    *lru.Cache[netip.Addr, tally]
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

// more is one failure more.
func (t tally) more(now time.Time) tally { return tally{t.now(now) + 1, now} }

func newFailures() *failures {
	pairs, err1 := lru.New[from, tally](tallies)
	at, err2 := lru.New[netip.Addr, tally](tallies)
	if err1 != nil || err2 != nil {
		panic("basic: a size of 0")
	}
	return &failures{pairs: pairs, at: at}
}

// note counts a password. A right one clears its user at that address, not the address:
// whoever has one account may try others from it.
func (f *failures) note(who from, isRight bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if isRight {
		f.pairs.Remove(who)
		return
	}
	now := time.Now()
	pair, _ := f.pairs.Get(who)
	f.pairs.Add(who, pair.more(now))
	all, _ := f.at.Get(who.address)
	f.at.Add(who.address, all.more(now))
}

func (f *failures) count(who from) (pair, address float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	p, _ := f.pairs.Peek(who)
	a, _ := f.at.Peek(who.address)
	return p.now(now), a.now(now)
}

func (f *failures) suspect(who from) bool {
	pair, address := f.count(who)
	return pair >= suspicious || address >= suspiciousAddress
}

// compare says who was wrong less: negative, a was.
func (f *failures) compare(a, b from) int {
	pairA, addressA := f.count(a)
	pairB, addressB := f.count(b)
	return cmp.Or(cmp.Compare(pairA, pairB), cmp.Compare(addressA, addressB))
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
