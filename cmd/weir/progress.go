package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// terminal gives what w writes to if that is one, or nil.
func terminal(w io.Writer) *os.File {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return f
}

// printer writes one line for each thing that has happened.
type printer struct {
	mu       sync.Mutex
	out, err io.Writer
}

func (p *printer) print(to io.Writer, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(to, format, args...) // nobody else could be told
}

// bars shows a bar for each blob, and lines at the end: what is written between bars that
// end may not be drawn any more.
type bars struct {
	bars  *mpb.Progress
	mu    sync.Mutex
	lines []func()
}

func newBars(terminal *os.File) *bars {
	return &bars{bars: mpb.New(mpb.WithOutput(terminal), mpb.WithWidth(40), mpb.WithRefreshRate(100*time.Millisecond), mpb.PopCompletedMode())}
}

// begin begins a bar for a blob of what has that name.
func (b *bars) begin(name string, d v1.Descriptor) *bar {
	short := d.Digest.Encoded()[:12]
	m := b.bars.AddBar(max(d.Size, 1),
		mpb.PrependDecorators(decor.Name(shortName(name), decor.WCSyncSpaceR), decor.Name(short)),
		mpb.AppendDecorators(
			decor.OnAbort(decor.OnComplete(decor.CountersKibiByte("% .1f / % .1f"), size(d.Size)), "failed"),
		))
	return &bar{bar: m, size: d.Size}
}

// shortName is an image's name, or the end of a long one: a bar is one line.
func shortName(name string) string {
	const most = 32
	if len(name) <= most {
		return name
	}
	return "…" + name[len(name)-most+1:]
}

// later has a line printed when all bars have ended.
func (b *bars) later(print func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, print)
}

func (b *bars) close() {
	b.bars.Wait()
	for _, print := range b.lines {
		print()
	}
}

// bar is that of one blob.
type bar struct {
	bar  *mpb.Bar
	size int64
}

func (b *bar) add(n int) { b.bar.IncrBy(n) }

func (b *bar) end(err error) {
	if err != nil {
		b.bar.Abort(false)
		return
	}
	b.bar.SetTotal(max(b.size, 1), true)
}
