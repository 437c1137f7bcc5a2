package main

import (
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// newWarmShow shows bars where out is a terminal, else lines.
func newWarmShow(out, err io.Writer) warmShow {
	if f := terminal(out); f != nil {
		return newWarmBars(f, err)
	}
	return newWarmLines(out, err)
}

// warmLines shows one line for each thing that has happened.
type warmLines struct{ printer }

func newWarmLines(out, err io.Writer) *warmLines { return &warmLines{printer{out: out, err: err}} }

func (l *warmLines) blob(x image, d v1.Descriptor) warmBar { return &warmedLine{l, x, d} }

func (l *warmLines) done(x image, d digest.Digest, blobs int, bytes int64, note string) {
	l.print(l.out, "%s: %s, %d blobs, %s\n", x.name, d, blobs, size(bytes))
	if note != "" {
		l.print(l.err, "weir: %s: %s\n", x.name, note)
	}
}

func (l *warmLines) failed(x image, err error) { l.print(l.err, "weir: %s: %v\n", x.name, err) }

func (l *warmLines) close() {}

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

// warmBars shows a bar for each blob, and at the end a line for each image.
type warmBars struct {
	*bars
	lines *warmLines
}

func newWarmBars(terminal *os.File, err io.Writer) *warmBars {
	return &warmBars{newBars(terminal), newWarmLines(terminal, err)}
}

func (b *warmBars) blob(x image, d v1.Descriptor) warmBar { return warmedBar{b.begin(x.name, d)} }

func (b *warmBars) done(x image, d digest.Digest, blobs int, bytes int64, note string) {
	b.later(func() { b.lines.done(x, d, blobs, bytes, note) })
}

func (b *warmBars) failed(x image, err error) { b.later(func() { b.lines.failed(x, err) }) }

type warmedBar struct{ *bar }

func (b warmedBar) end(_ bool, err error) { b.bar.end(err) }

var (
	_ warmShow = (*warmLines)(nil)
	_ warmShow = (*warmBars)(nil)
)
