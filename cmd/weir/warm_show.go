package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// warmLines shows one line for each thing that has happened.
type warmLines struct {
	mu       sync.Mutex
	out, err io.Writer
}

func newWarmLines(out, err io.Writer) *warmLines { return &warmLines{out: out, err: err} }

func (l *warmLines) print(to io.Writer, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = fmt.Fprintf(to, format, args...) // nobody else could be told
}

func (l *warmLines) blob(x image, d v1.Descriptor) warmBar { return &warmedLine{l, x, d} }

func (l *warmLines) done(x image, d digest.Digest, blobs int, bytes int64, note string) {
	l.print(l.out, "%s", doneLine(x, d, blobs, bytes))
	if note != "" {
		l.print(l.err, "weir: %s: %s\n", x.name, note)
	}
}

func (l *warmLines) failed(x image, err error) { l.print(l.err, "weir: %s: %v\n", x.name, err) }

func (l *warmLines) close() {}

func doneLine(x image, d digest.Digest, blobs int, bytes int64) string {
	return fmt.Sprintf("%s: %s, %d blobs, %s\n", x.name, d, blobs, size(bytes))
}

type warmedLine struct {
	lines *warmLines
	image image
	blob  v1.Descriptor
}

func (b *warmedLine) add(int) {}

func (b *warmedLine) end(cached bool, err error) {
	if err == nil {
		b.lines.print(b.lines.out, "%s: blob %s, %s, %s\n", b.image.name, b.blob.Digest, size(b.blob.Size), either(cached, "was there", "fetched"))
	}
}

// warmBars shows a bar for each blob, and at the end a line for each image: what is
// written between bars that end may not be drawn any more.
type warmBars struct {
	bars *mpb.Progress
	*warmLines
	mu    sync.Mutex
	lines []func()
}

func newWarmBars(terminal *os.File, err io.Writer) *warmBars {
	return &warmBars{
		bars:      mpb.New(mpb.WithOutput(terminal), mpb.WithWidth(40), mpb.WithRefreshRate(100*time.Millisecond), mpb.PopCompletedMode()),
		warmLines: newWarmLines(terminal, err),
	}
}

func (b *warmBars) blob(x image, d v1.Descriptor) warmBar {
	short := d.Digest.Encoded()[:12]
	bar := b.bars.AddBar(max(d.Size, 1),
		mpb.PrependDecorators(decor.Name(shortName(x.name), decor.WCSyncSpaceR), decor.Name(short)),
		mpb.AppendDecorators(
			decor.OnAbort(decor.OnComplete(decor.CountersKibiByte("% .1f / % .1f"), size(d.Size)), "failed"),
		))
	return &warmedBar{bar: bar, size: d.Size}
}

// shortName is an image's name, or the end of a long one: a bar is one line.
func shortName(name string) string {
	const most = 32
	if len(name) <= most {
		return name
	}
	return "…" + name[len(name)-most+1:]
}

func (b *warmBars) done(x image, d digest.Digest, blobs int, bytes int64, note string) {
	b.later(func() { b.warmLines.done(x, d, blobs, bytes, note) })
}

func (b *warmBars) failed(x image, err error) { b.later(func() { b.warmLines.failed(x, err) }) }

func (b *warmBars) later(print func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, print)
}

func (b *warmBars) close() {
	b.bars.Wait()
	for _, print := range b.lines {
		print()
	}
}

type warmedBar struct {
	bar  *mpb.Bar
	size int64
}

func (b *warmedBar) add(n int) { b.bar.IncrBy(n) }

func (b *warmedBar) end(_ bool, err error) {
	if err != nil {
		b.bar.Abort(false)
		return
	}
	b.bar.SetTotal(max(b.size, 1), true)
}

var (
	_ warmShow = (*warmLines)(nil)
	_ warmShow = (*warmBars)(nil)
)
