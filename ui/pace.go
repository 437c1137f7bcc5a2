package ui

import (
	"errors"
	"net/http"
	"time"
)

// stride is the most that is written between two renewals of the deadline, in bytes.
const stride = 256 << 10

// paced renews the write deadline as long as bytes move: a browser that is slow lives, and
// one that takes nothing is cut.
type paced struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	// release takes the deadline away after each step: HTTP/2 ends a stream when it passes,
	// also while there is nothing to say.
	release bool
}

func newPaced(w http.ResponseWriter, r *http.Request, stall time.Duration) *paced {
	return &paced{w, http.NewResponseController(w), stall, r.ProtoMajor > 1}
}

// Unwrap is for http.ResponseController.
func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// Write implements io.Writer.
func (p *paced) Write(b []byte) (total int, err error) {
	for {
		step := b[:min(len(b), stride)]
		p.begin()
		n, err := p.ResponseWriter.Write(step)
		p.done()
		total += n
		if b = b[len(step):]; err != nil || len(b) == 0 {
			return total, err
		}
	}
}

// FlushError gives the browser what was written so far.
func (p *paced) FlushError() error {
	p.begin()
	defer p.done()
	if err := p.control.Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil // nothing is held back, then
}

// end bounds what the server itself still writes of an answer.
func (p *paced) end() { p.begin() }

func (p *paced) begin() {
	if p.stall > 0 {
		// A ResponseWriter without deadlines has no browser that could stall it.
		_ = p.control.SetWriteDeadline(time.Now().Add(p.stall))
	}
}

func (p *paced) done() {
	if p.stall > 0 && p.release {
		_ = p.control.SetWriteDeadline(time.Time{})
	}
}
