package ui

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/ui/view"
)

const (
	// mostStreams is how many browsers are shown at once how fills get on, and mostOfOne how
	// many of them are one visitor's: by name, or by address.
	mostStreams = 64
	mostOfOne   = 16
	// lookEvery is how often it is looked how they do, and streamLife how long a stream
	// lasts: the browser then asks for the next one, and is asked anew who it is.
	lookEvery  = time.Second
	streamLife = 5 * time.Minute
	// quiet is how long nothing is said at most, so that proxies keep the connection.
	quiet = 15 * time.Second
)

// activityPage is what goes on.
type activityPage struct {
	Fills   []view.Fill
	Uploads []view.Upload
	Events  []view.Event
	view.Upstreams
}

func (u *UI) activity(w http.ResponseWriter, r *http.Request) error {
	ctx, page := r.Context(), origin.Page{N: runningShown}
	var p activityPage
	fills, err := u.opts.Shown.Fills(ctx, page)
	if err != nil {
		return err
	}
	uploads, err := u.opts.Shown.Uploads(ctx, page)
	if err != nil {
		return err
	}
	events, err := u.opts.Shown.Events(ctx, page)
	if err != nil {
		return err
	}
	if p.Upstreams, err = u.opts.Shown.Upstreams(ctx); err != nil {
		return err
	}
	p.Fills, p.Uploads, p.Events = fills.Items, uploads.Items, events.Items
	return u.render(w, r, http.StatusOK, "activity.html", "Activity", "activity", p)
}

// stream tells how fills get on, as server-sent events ("fills", the part of the page).
func (u *UI) stream(w http.ResponseWriter, r *http.Request) error {
	leave, ok := u.looking.enter(visitor(guard.Who(r.Context())))
	if !ok {
		w.Header().Set("Retry-After", "10")
		return origin.Errorf(origin.ErrUnavailable, "too many look on already")
	}
	defer leave()
	part, err := u.running(r.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx passes it on as it comes
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	end := time.NewTimer(streamLife)
	defer end.Stop()
	var said []byte
	for at := time.Now(); ; {
		switch {
		case !bytes.Equal(part, said):
			said, at = part, time.Now()
			err = send(w, "event: fills\n"+data(part)+"\n")
		case time.Since(at) >= quiet:
			at = time.Now()
			err = send(w, ":\n\n")
		}
		if err != nil {
			return nil // whoever looked has gone
		}
		select {
		case <-ticker.C:
		case <-end.C:
			return nil
		case <-u.end:
			return nil
		case <-r.Context().Done():
			return nil
		}
		if part, err = u.running(r.Context()); err != nil {
			return nil // the browser asks again, and is told
		}
	}
}

// visitor tells apart those who look on.
func visitor(who authz.Identity) string {
	if who.Authenticated() {
		return who.ID
	}
	return who.Client.IP.String()
}

// lookers are those who look on.
type lookers struct {
	mu  sync.Mutex
	all int
	of  map[string]int // visitor
}

// enter gives a visitor a place, until leave is called.
func (l *lookers) enter(visitor string) (leave func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == mostStreams || l.of[visitor] == mostOfOne {
		return nil, false
	}
	l.all++
	l.of[visitor]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all--
		if l.of[visitor]--; l.of[visitor] == 0 {
			delete(l.of, visitor)
		}
	}, true
}

// running is the part of the page that says what is being fetched.
func (u *UI) running(ctx context.Context) ([]byte, error) {
	fills, err := u.opts.Shown.Fills(ctx, origin.Page{N: runningShown})
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = u.pages["activity.html"].ExecuteTemplate(&text, "fills", fills.Items)
	return text.Bytes(), err
}

// data is a text as the data of an event.
func data(text []byte) string {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		fmt.Fprintf(&out, "data: %s\n", bytes.TrimRight(line, "\r\n"))
	}
	return out.String()
}

// send writes and flushes.
func send(w http.ResponseWriter, text string) error {
	if _, err := w.Write([]byte(text)); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}
