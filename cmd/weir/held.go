package main

import (
	"io"
	"sync"
	"time"
)

const (
	// heldFor is how long a line of the log waits for others at most. Whoever watches
	// the log sees no delay, and a busy server writes 50 times a second and not for
	// each request.
	heldFor = 20 * time.Millisecond
	// heldSize is how many bytes of lines wait at most.
	heldSize = 32 << 10
)

// held writes lines in groups: each at most heldFor after it came, and in their
// order. What is held when the process is killed is lost with it.
type held struct {
	w io.Writer

	mu    sync.Mutex
	lines []byte
	timer *time.Timer // runs while there are lines
	open  bool        // nothing is held any more
}

// newHeld holds lines on their way to w. The caller releases it.
func newHeld(w io.Writer) *held {
	h := &held{w: w, lines: make([]byte, 0, heldSize)}
	h.timer = time.AfterFunc(heldFor, func() { _ = h.flush() }) // of a log nobody can be told
	h.timer.Stop()
	return h
}

// Write implements io.Writer. p is one or more lines. An error may be of lines that
// came before.
func (h *held) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open {
		return h.w.Write(p)
	}
	if len(h.lines)+len(p) > heldSize {
		if err := h.let(); err != nil {
			return 0, err
		}
		if len(p) > heldSize {
			return h.w.Write(p)
		}
	}
	if len(h.lines) == 0 {
		h.timer.Reset(heldFor)
	}
	h.lines = append(h.lines, p...)
	return len(p), nil
}

// flush writes what is held.
func (h *held) flush() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.let()
}

// release writes what is held, and from then on each line as it comes.
func (h *held) release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = true
	return h.let()
}

// let writes what is held; it is not held any more, whatever becomes of it.
func (h *held) let() error {
	h.timer.Stop()
	if len(h.lines) == 0 {
		return nil
	}
	_, err := h.w.Write(h.lines)
	h.lines = h.lines[:0]
	return err
}
