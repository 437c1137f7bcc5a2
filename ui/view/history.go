package view

import (
	"slices"
	"sync"
	"time"

	"github.com/weir-registry/weir/origin"
)

const (
	// slot is what one point of a history covers, and slots how many there are: a day.
	slot  = 15 * time.Minute
	slots = 96
)

// Point is what there was of an upstream in a quarter of an hour.
type Point struct {
	At       time.Time `json:"at"`       // when it began
	Requests int64     `json:"requests"` // of clients
	Hits     int64     `json:"hits"`     // of these, the ones that did not wait for the upstream's content
	Served   int64     `json:"served"`   // bytes of blobs given to clients
	Fetched  int64     `json:"fetched"`  // bytes received from the upstream
}

// Day is the last day of an upstream: all of it together, and one point after the other.
type Day struct {
	Point
	Points []Point `json:"points"`
}

// HitRatio is the part of the requests that were hits; ok is false where there were none.
func (p Point) HitRatio() (ratio float64, ok bool) {
	return float64(p.Hits) / float64(max(p.Requests, 1)), p.Requests > 0
}

// Saved are the bytes that did not have to come from the upstream.
func (p Point) Saved() int64 { return max(0, p.Served-p.Fetched) }

// History remembers a day of each upstream, in memory. Its methods are safe for
// concurrent use.
type History struct {
	mu        sync.Mutex
	upstreams map[string]*[slots]Point
}

// NewHistory begins a History.
func NewHistory() *History { return &History{upstreams: map[string]*[slots]Point{}} }

// MirrorRequest takes note of a request of a client: see mirror.Meter.
func (h *History) MirrorRequest(upstream, _, result string) {
	hit := int64(0)
	switch origin.Cache(result) {
	case origin.Hit, origin.Revalidated, origin.Stale:
		hit = 1
	}
	h.add(upstream, Point{Requests: 1, Hits: hit})
}

// ServedBytes takes note of bytes given to clients.
func (h *History) ServedBytes(upstream string, n int64) { h.add(upstream, Point{Served: n}) }

// UpstreamBytes takes note of bytes that came from an upstream.
func (h *History) UpstreamBytes(upstream string, n int64) { h.add(upstream, Point{Fetched: n}) }

func (h *History) add(upstream string, more Point) {
	at := time.Now().UTC().Truncate(slot)
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.upstreams[upstream]
	if of == nil {
		of = new([slots]Point)
		h.upstreams[upstream] = of
	}
	p := &of[at.Unix()/int64(slot/time.Second)%slots]
	if !p.At.Equal(at) {
		*p = Point{At: at}
	}
	p.Requests += more.Requests
	p.Hits += more.Hits
	p.Served += more.Served
	p.Fetched += more.Fetched
}

// Day gives the last day of an upstream.
func (h *History) Day(upstream string) Day {
	at := time.Now().UTC().Truncate(slot)
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.upstreams[upstream]
	var d Day
	for range slots {
		p := Point{At: at}
		if of != nil {
			if there := of[at.Unix()/int64(slot/time.Second)%slots]; there.At.Equal(at) {
				p = there
			}
		}
		d.Points = append(d.Points, p)
		d.Requests += p.Requests
		d.Hits += p.Hits
		d.Served += p.Served
		d.Fetched += p.Fetched
		at = at.Add(-slot)
	}
	slices.Reverse(d.Points)
	d.At = d.Points[0].At
	return d
}
