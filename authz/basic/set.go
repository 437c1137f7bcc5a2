package basic

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// kept is how long a password that was right is not computed again.
	kept = time.Minute
	// remembered is how many passwords are remembered, right ones and wrong ones each.
	remembered = 4096
)

// set is one state of the users, and what was found out under it.
type set struct {
	users map[string]Hash
	// ring are the costs of the users' hashes, at the points that their names have on
	// a circle: who is unknown costs what the next one on it does. So a name always
	// costs the same, and the unknown cost what the known do, of each kind in its share.
	ring []point

	mu    sync.Mutex // of the two together
	right *lru.Cache[fingerprint, time.Time]
	wrong *lru.Cache[fingerprint, struct{}]
}

type point struct {
	at    [sha256.Size]byte
	dummy Hash
}

// fingerprint stands for a name and a password, see Basic.fingerprint.
type fingerprint [sha256.Size]byte

// newSet is the set of some lists of users. A name that comes twice is an error.
func newSet(lists ...[]User) (*set, error) {
	s := &set{users: map[string]Hash{}}
	for _, list := range lists {
		for _, u := range list {
			if _, again := s.users[u.Name]; again {
				return nil, fmt.Errorf("the user %q is there twice", u.Name)
			}
			s.users[u.Name] = u.Hash
			s.ring = append(s.ring, point{sha256.Sum256([]byte(u.Name)), u.Hash.cost.dummy()})
		}
	}
	slices.SortFunc(s.ring, func(a, b point) int { return bytes.Compare(a.at[:], b.at[:]) })
	var err1, err2 error
	s.right, err1 = lru.New[fingerprint, time.Time](remembered)
	s.wrong, err2 = lru.New[fingerprint, struct{}](remembered)
	if err1 != nil || err2 != nil {
		panic("basic: a size of 0")
	}
	return s, nil
}

// hash is what a password of name is compared with. For a name that is not known it is
// one that nothing matches; there must be users.
func (s *set) hash(name string) (h Hash, known bool) {
	at := sha256.Sum256([]byte(name))
	i, _ := slices.BinarySearchFunc(s.ring, at[:], func(p point, at []byte) int { return bytes.Compare(p.at[:], at) })
	dummy := s.ring[i%len(s.ring)].dummy
	if h, known = s.users[name]; !known {
		h = dummy
	}
	return h, known
}

// stamp names the hash that a user has; see Basic.Stamp.
func (s *set) stamp(name string) (string, bool) {
	h, known := s.users[name]
	if !known {
		return "", false
	}
	sum := sha256.Sum256([]byte("weir: what a refresh token was issued under\x00" + name + "\x00" + h.text))
	return hex.EncodeToString(sum[:16]), true
}

// verdict is what is known of a password.
type verdict int

const (
	unknown verdict = iota
	wrong
	wasRight // and is to be computed again
	right
)

func (s *set) verdict(f fingerprint, now time.Time) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	if until, ok := s.right.Get(f); ok {
		if now.Before(until) {
			return right
		}
		return wasRight
	}
	if s.wrong.Contains(f) {
		return wrong
	}
	return unknown
}

func (s *set) learn(f fingerprint, isRight bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if isRight {
		s.right.Add(f, now.Add(kept))
		return
	}
	s.wrong.Add(f, struct{}{})
}
