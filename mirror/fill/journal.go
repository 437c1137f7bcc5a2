package fill

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sync"
)

// A journal says what of a spool's blob has landed, so that a fill can go on where
// an earlier process was killed. It is text: a line with the blob's size, and one
// for each chunk with its offset, its length, and the CRC-32C of its bytes. Nothing
// of it is ever synced. What it says is believed of no byte: a chunk whose bytes do
// not have its sum is fetched again, and the digest has the last word on all.
type journal struct {
	mu   sync.Mutex
	file *os.File
	io   readWriter // the file
	bad  bool       // it could not be written; the fill goes on without it
}

// chunk is a stretch of a spool, and the CRC-32C of its bytes.
type chunk struct {
	off, n int64
	sum    uint32
}

const (
	journalSuffix = ".journal"
	journalHead   = "weir spool 1 size %d\n"
	// chunkSize is what a kill costs per stream at most.
	chunkSize = 1 << 20
	// journalMost bounds what is read of a journal: 100 GiB in chunks.
	journalMost = 5 << 20
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// note writes a chunk down that has landed, and begins the one behind it. A blob
// that is small, or whose size is not known, has no journal.
func (s *Spool) note(f *Fill, c *chunk) {
	f.mu.Lock()
	size := f.size
	f.mu.Unlock()
	if c.n > 0 && size > small {
		s.journal.add(s.spools, s.name+journalSuffix, size, *c)
	}
	*c = chunk{off: c.off + c.n}
}

func (j *journal) add(spools *Spools, name string, size int64, c chunk) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.bad {
		return
	}
	var line []byte
	if j.file == nil {
		f, err := spools.open(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL)
		if err != nil {
			j.bad = true
			return
		}
		j.file, j.io, line = f, spools.seam(f), fmt.Appendf(line, journalHead, size)
	}
	line = fmt.Appendf(line, "%d %d %08x\n", c.off, c.n, c.sum)
	if _, err := j.io.Write(line); err != nil {
		j.bad = true
	}
}

// begun reports whether there is anything in the journal.
func (j *journal) begun() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file != nil
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

// load opens the journal that an earlier fill left, and goes on with it.
func (j *journal) load(spools *Spools, name string) (size int64, chunks []chunk, err error) {
	f, err := spools.open(name, os.O_RDWR|os.O_APPEND)
	if err != nil {
		return 0, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, journalMost))
	if err == nil {
		size, chunks, err = parseJournal(text)
	}
	if err != nil {
		return 0, nil, errors.Join(err, f.Close())
	}
	j.file, j.io = f, spools.seam(f)
	return size, chunks, nil
}

// parseJournal reads a journal, as far as it makes sense: its end may have been
// lost. The chunks lie inside the blob, and are in the order of their offsets.
// Errors: errStale if not even the first line makes sense.
func parseJournal(text []byte) (size int64, chunks []chunk, err error) {
	lines := bufio.NewReader(bytes.NewReader(text))
	head, err := lines.ReadString('\n')
	if n, _ := fmt.Sscanf(head, journalHead, &size); err != nil || n != 1 || size <= small || head != fmt.Sprintf(journalHead, size) {
		return 0, nil, errStale
	}
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // without its end it is none
		}
		var c chunk
		if n, _ := fmt.Sscanf(line, "%d %d %x\n", &c.off, &c.n, &c.sum); n != 3 || c.off < 0 || c.n <= 0 || c.n > size || c.off > size-c.n {
			break
		}
		chunks = append(chunks, c)
	}
	slices.SortStableFunc(chunks, func(a, b chunk) int {
		switch {
		case a.off < b.off:
			return -1
		case a.off > b.off:
			return 1
		}
		return 0
	})
	return size, chunks, nil
}

// resume looks through what an earlier fill left, and lets what is good count as
// landed. Meanwhile it is nobody else's, and the rest is fetched.
func (f *Fill) resume(ctx context.Context, chunks []chunk) {
	if len(chunks) == 0 {
		return
	}
	f.mu.Lock()
	f.sized(f.spool.size)
	claims := make([]*claim, len(chunks))
	for i, c := range chunks {
		claims[i] = &claim{pos: c.off, end: c.off + c.n}
	}
	f.plan.proving = append(f.plan.proving, claims...)
	f.mu.Unlock()
	f.work.Go(func() {
		buf := f.group.buffers.get()
		defer f.group.buffers.put(buf)
		for i, c := range chunks {
			good := ctx.Err() == nil && f.spool.proves(c, *buf)
			f.mu.Lock()
			f.plan.release(claims[i])
			if good {
				f.plan.landed = f.plan.landed.add(span{c.off, c.off + c.n})
			}
			f.notify()
			f.mu.Unlock()
		}
		f.mu.Lock()
		if f.plan.landed.end(0) == f.size {
			f.open("") // nobody need be asked any more
		}
		f.mu.Unlock()
	})
}

// proves reports whether a chunk's bytes have its sum.
func (s *Spool) proves(c chunk, buf []byte) bool {
	sum := uint32(0)
	for c.n > 0 {
		b := buf[:min(int64(len(buf)), c.n)]
		if _, err := s.ReadAt(b, c.off); err != nil {
			return false
		}
		sum = crc32.Update(sum, castagnoli(), b)
		c.off, c.n = c.off+int64(len(b)), c.n-int64(len(b))
	}
	return sum == c.sum
}
