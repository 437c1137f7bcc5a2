package serve

import "sync"

const (
	// uploadBuffer is the buffer of an upload that comes fast. With 512 KiB a
	// gigabyte costs a fifth less in system calls and deadlines than with 64 KiB;
	// more gains nothing.
	uploadBuffer = 512 << 10
	// uploadBuffers is how many of those there are at most, whatever clients do:
	// more uploads than this at once are not fast.
	uploadBuffers = 16
)

// largeBuffers lends a bounded number of large buffers.
type largeBuffers struct {
	lent chan struct{}
	pool sync.Pool
}

func newLargeBuffers() *largeBuffers {
	return &largeBuffers{
		lent: make(chan struct{}, uploadBuffers),
		pool: sync.Pool{New: func() any { return new([uploadBuffer]byte) }},
	}
}

// get lends a buffer, or gives nil if all are lent.
func (l *largeBuffers) get() *[uploadBuffer]byte {
	select {
	case l.lent <- struct{}{}:
		return l.pool.Get().(*[uploadBuffer]byte)
	default:
		return nil
	}
}

// put takes a buffer back; nil is none.
func (l *largeBuffers) put(b *[uploadBuffer]byte) {
	if b != nil {
		l.pool.Put(b)
		<-l.lent
	}
}
