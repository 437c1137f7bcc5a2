package serve

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/weir-registry/weir/store"
)

const (
	// copyBuffer is the buffer of a body that cannot write itself, and of uploads.
	copyBuffer = 64 << 10
	// stride is the most that a file gives to a socket between two renewals of the
	// deadline. At the usual 60 s it lets a client live that takes 4.3 KiB/s; the
	// renewals cost less than the system calls they stand between.
	stride = store.Step / 4
)

// pacer writes a response's body and renews the write deadline with each step, so
// that a slow client lives and one that stands still does not. It passes files on
// to the ResponseWriter's own ReadFrom, and so to the kernel.
type pacer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	// release takes the deadline away after each step. HTTP/2 ends a stream when its
	// deadline passes, also while its body waits for an upstream; HTTP/1 only looks
	// at it while it writes.
	release bool
}

func (s *server) pace(w http.ResponseWriter, r *http.Request) *pacer {
	return &pacer{w: w, control: http.NewResponseController(w), stall: s.stall, release: r.ProtoMajor > 1}
}

// begin starts a step, and gives what ends it.
func (p *pacer) begin() {
	if p.stall > 0 {
		// A ResponseWriter without deadlines has no client that could stall it.
		_ = p.control.SetWriteDeadline(time.Now().Add(p.stall))
	}
}

func (p *pacer) end() {
	if p.stall > 0 && p.release {
		_ = p.control.SetWriteDeadline(time.Time{})
	}
}

// Write implements io.Writer.
func (p *pacer) Write(b []byte) (total int, err error) {
	for {
		step := b[:min(len(b), stride)]
		p.begin()
		n, err := p.w.Write(step)
		p.end()
		total += n
		if b = b[len(step):]; err != nil || len(b) == 0 {
			return total, err
		}
	}
}

// ReadFrom implements io.ReaderFrom.
func (p *pacer) ReadFrom(r io.Reader) (total int64, err error) {
	to, ok := p.w.(io.ReaderFrom)
	if !ok {
		return io.CopyBuffer(struct{ io.Writer }{p}, r, make([]byte, copyBuffer))
	}
	// A limit on a limit would hide the file from the kernel: the outer one is
	// kept here.
	outer, limited := r.(*io.LimitedReader)
	if limited {
		r = outer.R
	}
	for {
		step := &io.LimitedReader{R: r, N: stride}
		if limited {
			step.N = min(step.N, outer.N)
		}
		asked := step.N
		if asked <= 0 {
			return total, nil
		}
		p.begin()
		n, err := to.ReadFrom(step)
		p.end()
		total += n
		if limited {
			outer.N -= asked - step.N
		}
		if err != nil || n < asked {
			return total, err
		}
	}
}

// FlushError gives the client what was written so far.
func (p *pacer) FlushError() error {
	p.begin()
	err := p.control.Flush()
	p.end()
	if errors.Is(err, http.ErrNotSupported) {
		return nil // nothing is held back, then
	}
	return err
}

// copyBody gives a body to the client, and how many bytes that were. A body that
// writes itself does so in steps of its own; else what came is passed on at once.
func (s *server) copyBody(p *pacer, body io.Reader) (total int64, err error) {
	if self, ok := body.(io.WriterTo); ok {
		return self.WriteTo(p)
	}
	buf := s.buffers.Get().(*[copyBuffer]byte)
	defer s.buffers.Put(buf)
	for {
		n, readErr := body.Read(buf[:])
		if n > 0 {
			m, err := p.Write(buf[:n])
			total += int64(m)
			if err != nil {
				return total, err
			}
			if n < len(buf) && readErr == nil {
				// The source is slower than the client: let it see what there is.
				if err := p.FlushError(); err != nil {
					return total, err
				}
			}
		}
		if readErr == io.EOF {
			return total, nil
		}
		if readErr != nil {
			return total, readErr
		}
	}
}

// pacedBody reads a request's body and renews the read deadline with each read.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
	stall   time.Duration
	release bool // as of a pacer
	done    bool // all of it was read
}

// paced gives a request whose body is read under deadlines. The first stands at
// once: where a request is refused, the server itself reads on for a while. HTTP/2
// does not, and would end the stream.
func (s *server) paced(w http.ResponseWriter, r *http.Request) *http.Request {
	if r.ContentLength == 0 {
		return r
	}
	b := &pacedBody{ReadCloser: r.Body, control: http.NewResponseController(w), stall: s.stall, release: r.ProtoMajor > 1}
	if s.stall > 0 && !b.release {
		_ = b.control.SetReadDeadline(time.Now().Add(s.stall))
	}
	r = r.WithContext(r.Context()) // the server keeps its own, and knows its body by type
	r.Body = b
	return r
}

// Read implements io.Reader.
func (b *pacedBody) Read(p []byte) (int, error) {
	if b.stall > 0 {
		_ = b.control.SetReadDeadline(time.Now().Add(b.stall))
	}
	n, err := b.ReadCloser.Read(p)
	b.done = b.done || err == io.EOF
	if b.stall > 0 && (b.done || b.release) {
		// What is done with the bytes may take longer than a client may stand still,
		// and the server listens meanwhile whether the client is there. After another
		// error the deadline stays: the server tries to read the rest.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// unread reports whether there may be more of a request's body.
func unread(r *http.Request) bool {
	b, paced := r.Body.(*pacedBody)
	return r.ContentLength != 0 && !(paced && b.done)
}
