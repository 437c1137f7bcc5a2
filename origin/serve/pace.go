package serve

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/weir-registry/weir/store"
)

const (
	// copyBuffer is the buffer of a body that cannot write itself, and of an upload.
	copyBuffer = 32 << 10
	// stride is the most that is written to a client between two renewals of the
	// deadline. At the usual 60 s it lets a client live that takes 4.3 KiB/s; the
	// renewals cost less than the system calls they stand between.
	stride = store.Step / 4
	// looks is into how many parts the stall time is cut while the kernel sends a
	// file. After each it is seen whether the client took a byte meanwhile: one that
	// takes none is cut when 60 to 61 parts have gone by. At the usual stall time that
	// is a look, of some 10 µs, each second.
	looks = 60
)

// pacer writes a response's body and renews the write deadline as long as bytes
// move, so that a slow client lives and one that stands still does not. It passes
// files on to the ResponseWriter's own ReadFrom, and so to the kernel.
type pacer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	buffers *sync.Pool
	// release takes the deadline away after each step. HTTP/2 ends a stream when its
	// deadline passes, also while its body waits for an upstream; HTTP/1 only looks
	// at it while it writes.
	release bool
	flushed bool         // the header is out
	conn    *net.TCPConn // that the kernel sends files to; nil where it does not
}

func (s *server) pace(w http.ResponseWriter, r *http.Request) *pacer {
	return &pacer{
		w: w, control: http.NewResponseController(w), stall: s.stall, buffers: s.buffers,
		release: r.ProtoMajor > 1, conn: connection(r),
	}
}

// begin starts a step, and end ends it.
func (p *pacer) begin() { p.allow(p.stall) }

// allow lets the client take no byte for d.
func (p *pacer) allow(d time.Duration) {
	if p.stall > 0 {
		// A ResponseWriter without deadlines has no client that could stall it.
		_ = p.control.SetWriteDeadline(time.Now().Add(d))
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

// ReadFrom implements io.ReaderFrom. All that is left of a file is given away in
// one call, which allocates as much for a byte as for a gigabyte.
func (p *pacer) ReadFrom(r io.Reader) (int64, error) {
	to, ok := p.w.(io.ReaderFrom)
	part, limited := r.(*io.LimitedReader)
	if !ok || !limited {
		return p.copy(r, false)
	}
	f, ok := part.R.(*os.File)
	if !ok {
		return p.copy(r, false)
	}
	if !p.flushed {
		defer cork(p.conn)()
		// Else the server copies the first bytes, to guess what they are.
		if err := p.FlushError(); err != nil {
			return 0, err
		}
		p.flushed = true
	}
	left := io.LimitedReader{R: &fileSource{f, p}, N: part.N}
	defer func() { part.N = left.N }()
	return p.send(to, &left)
}

// send gives to what is left of a file. A deadline that passes is not the client's
// end if it took something meanwhile, as long as all that was taken from the file
// went out: what waits in between is lost, and the next byte would be a wrong one.
// What only the kernel took says nothing of the client: it takes megabytes, and more
// whenever it finds room.
func (p *pacer) send(to io.ReaderFrom, left *io.LimitedReader) (total int64, err error) {
	taken := int64(0)
	for silent := 0; ; {
		p.allow(p.stall / looks)
		before := left.N
		n, err := to.ReadFrom(left)
		total += n
		now := total
		if p.conn != nil {
			now -= untaken(p.conn)
		}
		if silent++; now != taken {
			taken, silent = now, 0
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || before-left.N != n || silent == looks {
			return total, err
		}
	}
}

// fileSource is a file on its way to a client. A connection that the kernel can
// send to takes its descriptor; any other one reads it, a buffer at a time, and
// each buffer is a step.
type fileSource struct {
	f *os.File
	p *pacer
}

// SyscallConn implements syscall.Conn.
func (s *fileSource) SyscallConn() (syscall.RawConn, error) { return s.f.SyscallConn() }

// Read implements io.Reader.
func (s *fileSource) Read(b []byte) (int, error) {
	s.p.begin()
	return s.f.Read(b)
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

// body gives a body to the client, and how many bytes that were. A body that
// writes itself does so in steps of its own; else what came is passed on at once.
func (p *pacer) body(body io.Reader) (int64, error) {
	if self, ok := body.(io.WriterTo); ok {
		return self.WriteTo(p)
	}
	return p.copy(body, true)
}

// copy writes all that r has. Where a source is live, the client sees what there is
// whenever it is slower than the client.
func (p *pacer) copy(r io.Reader, live bool) (total int64, err error) {
	buf := p.buffers.Get().(*[copyBuffer]byte)
	defer p.buffers.Put(buf)
	for {
		n, readErr := r.Read(buf[:])
		if n > 0 {
			m, err := p.Write(buf[:n])
			total += int64(m)
			if err != nil {
				return total, err
			}
			if live && n < len(buf) && readErr == nil {
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

// Paced has the bodies of requests be read under deadlines of stall, as a handler of New
// does with its own: for what stands before one, or beside it. Whoever refuses a request
// there without reading its body would else wait for the rest of it for ever.
func Paced(next http.Handler, stall time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, paced(w, r, stall))
	})
}

// paced gives a request whose body is read under deadlines. The first stands at
// once: where a request is refused, the server itself reads on for a while. HTTP/2
// does not, and would end the stream.
func paced(w http.ResponseWriter, r *http.Request, stall time.Duration) *http.Request {
	if _, is := r.Body.(*pacedBody); is || r.ContentLength == 0 {
		return r
	}
	b := &pacedBody{ReadCloser: r.Body, control: http.NewResponseController(w), stall: stall, release: r.ProtoMajor > 1}
	if stall > 0 && !b.release {
		_ = b.control.SetReadDeadline(time.Now().Add(stall))
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
