package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin/importer"
)

// transferShow tells a person how an import or export goes on.
type transferShow interface {
	importer.Show
	close()
}

// newTransferShow shows bars where out is a terminal, else lines.
func newTransferShow(out, err io.Writer) transferShow {
	lines := &transferLines{printer{out: out, err: err}}
	if f := terminal(out); f != nil {
		return &transferBars{newBars(f), lines}
	}
	return lines
}

// transferLines shows one line for each thing that has happened.
type transferLines struct{ printer }

func (l *transferLines) Blob(string, v1.Descriptor) importer.Bar { return noBar{} }

func (l *transferLines) Done(of string, d digest.Digest, s importer.Summary) {
	if d == "" {
		l.print(l.out, "%s: %s\n", of, summarize(s))
		return
	}
	line := of + ": " + d.String()
	if s.Changed() {
		line += ", " + summarize(s)
	}
	l.print(l.out, "%s\n", line)
}

func (l *transferLines) Moved(of string, from, to digest.Digest) {
	l.print(l.out, "%s: moved to %s; it was %s\n", of, to, from)
}

func (l *transferLines) Failed(of string, err error) {
	l.print(l.err, "weir: %s: %s\n", of, strings.ReplaceAll(err.Error(), "\n", "; "))
}

func (l *transferLines) close() {}

// transferBars shows a bar for each blob, and at the end the lines.
type transferBars struct {
	*bars
	lines *transferLines
}

func (b *transferBars) Blob(of string, d v1.Descriptor) importer.Bar {
	return transferBar{b.begin(of, d)}
}

func (b *transferBars) Done(of string, d digest.Digest, s importer.Summary) {
	b.later(func() { b.lines.Done(of, d, s) })
}

func (b *transferBars) Moved(of string, from, to digest.Digest) {
	b.later(func() { b.lines.Moved(of, from, to) })
}

func (b *transferBars) Failed(of string, err error) {
	b.later(func() { b.lines.Failed(of, err) })
}

type transferBar struct{ *bar }

func (b transferBar) Add(n int)     { b.add(n) }
func (b transferBar) End(err error) { b.end(err) }

type noBar struct{}

func (noBar) Add(int)   {}
func (noBar) End(error) {}

// summarize says what was done, in words.
func summarize(s importer.Summary) string {
	var said []string
	say := func(n int, one, many string) {
		if n > 0 {
			said = append(said, fmt.Sprintf("%d %s", n, either(n == 1, one, many)))
		}
	}
	say(s.Manifests, "manifest", "manifests")
	say(s.Tags, "tag", "tags")
	if s.Blobs > 0 {
		of := size(s.Bytes)
		if s.Linked > 0 {
			of += fmt.Sprintf(", %s linked", either(s.Linked == s.Blobs, "all", fmt.Sprint(s.Linked)))
		}
		said = append(said, fmt.Sprintf("%d %s (%s)", s.Blobs, either(s.Blobs == 1, "blob", "blobs"), of))
	}
	if !s.Changed() {
		said = append(said, either(s.Failed > 0, "nothing taken", "nothing to do"))
	}
	if s.Present > 0 {
		said = append(said, fmt.Sprintf("%d manifests and tags were there", s.Present))
	}
	say(s.Unnamed, "blob that no manifest names left out", "blobs that no manifest names left out")
	say(s.Failed, "failed", "failed")
	return strings.Join(said, ", ")
}

var (
	_ transferShow = (*transferLines)(nil)
	_ transferShow = (*transferBars)(nil)
)
