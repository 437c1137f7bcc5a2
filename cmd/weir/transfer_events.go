package main

import (
	"encoding/json"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/origin/importer"
)

// transferEvent is one thing that an import or an export shows, as whoever runs it tells
// the command that asked for it.
type transferEvent struct {
	Kind    string           `json:"kind"` // begin, add, end, done, moved, failed
	Bar     int              `json:"bar,omitempty"`
	Of      string           `json:"of,omitempty"`
	Blob    *v1.Descriptor   `json:"blob,omitempty"`
	Bytes   int              `json:"bytes,omitempty"`
	Digest  digest.Digest    `json:"digest,omitempty"`
	Before  digest.Digest    `json:"before,omitempty"`
	Summary importer.Summary `json:"summary,omitzero"`
	Error   string           `json:"error,omitempty"`
}

// teller is an importer.Show that tells what it is shown, as lines of JSON.
type teller struct {
	mu   sync.Mutex
	say  func(line string)
	last int // number of a bar
}

func (t *teller) tell(e transferEvent) {
	line, _ := json.Marshal(e) // strings and numbers always can be
	t.mu.Lock()
	defer t.mu.Unlock()
	t.say(string(line))
}

func (t *teller) Blob(of string, d v1.Descriptor) importer.Bar {
	t.mu.Lock()
	t.last++
	bar := &toldBar{teller: t, number: t.last}
	t.mu.Unlock()
	// What else a descriptor may hold, and it may be much, no bar shows.
	t.tell(transferEvent{Kind: "begin", Bar: bar.number, Of: of, Blob: &v1.Descriptor{Digest: d.Digest, Size: d.Size}})
	return bar
}

func (t *teller) Done(of string, d digest.Digest, s importer.Summary) {
	t.tell(transferEvent{Kind: "done", Of: of, Digest: d, Summary: s})
}

func (t *teller) Moved(of string, from, to digest.Digest) {
	t.tell(transferEvent{Kind: "moved", Of: of, Before: from, Digest: to})
}

func (t *teller) Failed(of string, err error) {
	message := err.Error()
	if errors.Is(err, importer.ErrNameless) {
		message += ": say where it goes with --name REPOSITORY:TAG"
	}
	t.tell(transferEvent{Kind: "failed", Of: of, Error: message})
}

// toldBar tells how a blob goes on, every 4 MiB.
type toldBar struct {
	teller *teller
	number int
	untold int // bytes
}

func (b *toldBar) Add(n int) {
	const much = 4 << 20
	if b.untold += n; b.untold >= much {
		b.teller.tell(transferEvent{Kind: "add", Bar: b.number, Bytes: b.untold})
		b.untold = 0
	}
}

func (b *toldBar) End(err error) {
	e := transferEvent{Kind: "end", Bar: b.number}
	if err != nil {
		e.Error = err.Error()
	}
	b.teller.tell(e)
}

// showTold gives what shows the lines of a teller. Lines that it does not know, of a later
// version perhaps, show nothing.
func showTold(show importer.Show) func(line string) {
	bars := map[int]importer.Bar{}
	return func(line string) {
		var e transferEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return
		}
		bar := bars[e.Bar]
		switch {
		case e.Kind == "begin" && e.Blob != nil && bar == nil && e.Blob.Digest.Validate() == nil:
			bars[e.Bar] = show.Blob(e.Of, *e.Blob)
		case e.Kind == "add" && bar != nil:
			bar.Add(e.Bytes)
		case e.Kind == "end" && bar != nil:
			delete(bars, e.Bar)
			bar.End(said(e.Error))
		case e.Kind == "done":
			show.Done(e.Of, e.Digest, e.Summary)
		case e.Kind == "moved":
			show.Moved(e.Of, e.Before, e.Digest)
		case e.Kind == "failed":
			show.Failed(e.Of, said(e.Error))
		}
	}
}

// said is an error of those words, nil for none.
func said(message string) error {
	if message == "" {
		return nil
	}
	return errors.New(message)
}
