package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weir-registry/weir/store/coord"
	"github.com/weir-registry/weir/ui/view"
)

const (
	// presentEvery is how often a replica says that it is there, and absentAfter for how long
	// that is believed.
	presentEvery = 5 * time.Second
	absentAfter  = 16 * time.Second
	// presentKey begins what replicas mention of themselves; JSON follows.
	presentKey = "present/"
	// mostPresent is how many replicas are kept in mind, and longestPresent how many bytes one
	// may say of itself.
	mostPresent, longestPresent = 1000, 1 << 10
)

// presence tells the other replicas that this one is there, and keeps in mind which say so.
// Nothing depends on it but what is shown.
type presence struct {
	notify coord.Notify
	self   func() view.Peer
	id     string
	over   chan struct{} // closed at the end
	ended  sync.WaitGroup

	mu     sync.Mutex
	others map[string]view.Peer // by what they call themselves
}

// mention is what a replica says of itself.
type mention struct {
	ID        string    `json:"id"`
	Advertise string    `json:"advertise,omitempty"`
	Version   string    `json:"version"`
	Started   time.Time `json:"started"`
	Fills     int       `json:"fills"`
	Uploads   int       `json:"uploads"`
}

// beginPresence has this replica be known to the others, if there are any. Nothing that comes
// after it fails: close ends it.
func (k *kept) beginPresence(started time.Time) {
	if k.replicas == nil {
		return
	}
	k.presence = newPresence(k.replicas.redis, func() view.Peer {
		is := view.Peer{Version: version, Started: started, Fills: len(k.fills.Running()), Uploads: k.uploads.Count()}
		if h := k.replicas.hops; h != nil {
			is.Advertise = h.own
		}
		return is
	})
	k.closers = slices.Insert(k.closers, 0, k.presence.close) // before the Redis that it speaks through
}

// newPresence begins to tell what self says of this replica, and to listen. The caller closes
// it, before n.
func newPresence(n coord.Notify, self func() view.Peer) *presence {
	p := &presence{notify: n, self: self, id: rand.Text(), over: make(chan struct{}), others: map[string]view.Peer{}}
	n.Subscribe(p.heard, func() {}) // what is missed is said again
	p.ended.Go(p.tell)
	return p
}

func (p *presence) close() error {
	close(p.over)
	p.ended.Wait()
	return nil
}

func (p *presence) tell() {
	again := time.NewTicker(presentEvery)
	defer again.Stop()
	for {
		s := p.self()
		// There is nothing in it that has no JSON.
		data, _ := json.Marshal(mention{p.id, s.Advertise, s.Version, s.Started, s.Fills, s.Uploads})
		p.notify.Mention(context.Background(), presentKey+string(data))
		select {
		case <-again.C:
		case <-p.over:
			return
		}
	}
}

// heard takes note of what others say of themselves.
func (p *presence) heard(keys []string) {
	for _, key := range keys {
		said, ok := strings.CutPrefix(key, presentKey)
		var m mention
		if !ok || len(said) > longestPresent || json.Unmarshal([]byte(said), &m) != nil || m.ID == p.id {
			continue
		}
		p.mu.Lock()
		if _, known := p.others[m.ID]; known || len(p.others) < mostPresent {
			p.others[m.ID] = view.Peer{Advertise: m.Advertise, Version: m.Version, Started: m.Started, Fills: m.Fills, Uploads: m.Uploads, Heard: time.Now()}
		}
		p.mu.Unlock()
	}
}

// list gives the replicas that were heard of lately, the oldest first.
func (p *presence) list() []view.Peer {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []view.Peer
	for id, peer := range p.others {
		if time.Since(peer.Heard) > absentAfter {
			delete(p.others, id)
			continue
		}
		all = append(all, peer)
	}
	slices.SortFunc(all, func(a, b view.Peer) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Advertise, b.Advertise))
	})
	return all
}
