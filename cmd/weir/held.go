package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
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
	// writing is who writes to w. What comes meanwhile is held in another buffer, and its
	// writers wait for nobody until that is full.
	writing sync.Mutex
	w       io.Writer
	spare   []byte

	mu    sync.Mutex // locked within writing, if both are
	lines []byte
	timer *time.Timer // runs while there are lines
	open  atomic.Bool // nothing is held any more
}

// newHeld holds lines on their way to w. The caller releases it.
func newHeld(w io.Writer) *held {
	h := &held{w: w, lines: make([]byte, 0, heldSize), spare: make([]byte, 0, heldSize)}
	h.mu.Lock() // or the timer might run out before it is h's
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(heldFor, func() { _ = h.flush() }) // of a log nobody can be told
	h.timer.Stop()
	return h
}

// Write implements io.Writer. p is one or more lines. An error may be of lines that
// came before.
func (h *held) Write(p []byte) (int, error) {
	if err := h.write(visible(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// visible gives lines without what a terminal would obey: JSON escapes C0 by itself, and
// leaves DEL and C1 (U+0080 to U+009F, which begin with 0xC2) as they are.
func visible(p []byte) []byte {
	if bytes.IndexByte(p, 0x7f) < 0 && bytes.IndexByte(p, 0xc2) < 0 {
		return p
	}
	var b []byte
	for len(p) > 0 {
		switch {
		case p[0] == 0x7f:
			b, p = append(b, `\u007f`...), p[1:]
		case len(p) > 1 && p[0] == 0xc2 && 0x80 <= p[1] && p[1] <= 0x9f:
			b, p = fmt.Appendf(b, `\u%04x`, p[1]), p[2:]
		default:
			b, p = append(b, p[0]), p[1:]
		}
	}
	return b
}

func (h *held) write(p []byte) error {
	if h.hold(p) {
		return nil
	}
	h.writing.Lock()
	defer h.writing.Unlock()
	for !h.hold(p) { // or another one has made room
		if err := h.let(); err != nil {
			return err
		}
		if h.open.Load() || len(p) > heldSize {
			_, err := h.w.Write(p)
			return err
		}
	}
	return nil
}

// hold keeps p if there is room for it.
func (h *held) hold(p []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open.Load() || len(h.lines)+len(p) > heldSize {
		return false
	}
	if len(h.lines) == 0 {
		h.timer.Reset(heldFor)
	}
	h.lines = append(h.lines, p...)
	return true
}

// flush writes what is held.
func (h *held) flush() error {
	h.writing.Lock()
	defer h.writing.Unlock()
	return h.let()
}

// release writes what is held, and from then on each line as it comes.
func (h *held) release() error {
	h.open.Store(true)
	return h.flush()
}

// let writes what is held; it is not held any more, whatever becomes of it. The caller has
// locked writing.
func (h *held) let() error {
	h.mu.Lock()
	h.timer.Stop()
	lines := h.lines
	h.lines = h.spare
	h.mu.Unlock()
	h.spare = lines[:0]
	if len(lines) == 0 {
		return nil
	}
	_, err := h.w.Write(lines)
	return err
}
