package disktest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// Image is what is left of a directory after a power cut.
type Image struct{ root *remains }

// remains is what is left of a file or directory. A file with two names is one.
type remains struct {
	data  []byte
	names map[string]*remains // nil in a file
}

// Cut gives what is left of the directory if the power is cut now: all that is
// durable, and of the rest what chance wants: at times all or nothing of it. For hooks,
// and for when nothing is written.
func (c *Crash) Cut(rnd *rand.Rand) *Image {
	shares := []float64{0, 0.1, 0.5, 0.9, 1}
	x := cut{
		rnd:   rnd,
		share: shares[rnd.IntN(len(shares))],
		fates: map[*change]bool{},
		files: map[*node]*remains{},
	}
	return &Image{x.of(c.root)}
}

// cut is one power cut.
type cut struct {
	rnd   *rand.Rand
	share float64 // how likely it is that something survives
	fates map[*change]bool
	files map[*node]*remains
}

func (x *cut) survives() bool { return x.rnd.Float64() < x.share }

// happened decides whether a change has reached the disk.
func (x *cut) happened(c *change) bool {
	if c.sure {
		return true
	}
	fate, ok := x.fates[c]
	if !ok {
		fate = (c.after == nil || x.happened(c.after)) && x.survives()
		x.fates[c] = fate
	}
	return fate
}

func (x *cut) of(n *node) *remains {
	if r, ok := x.files[n]; ok {
		return r
	}
	if !n.dir() {
		r := &remains{data: x.bytes(n)}
		x.files[n] = r
		return r
	}
	names := n.durable
	if len(n.pending) > 0 {
		names = maps.Clone(names)
		for _, c := range n.pending {
			switch {
			case !x.happened(c):
			case c.node == nil:
				delete(names, c.name)
			default:
				names[c.name] = c.node
			}
		}
	}
	r := &remains{names: make(map[string]*remains, len(names))}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		r.names[name] = x.of(names[name])
	}
	return r
}

// bytes gives what is left of a file's bytes.
func (x *cut) bytes(n *node) []byte {
	if n.stable == len(n.synced) && n.stable == len(n.data) {
		return n.data
	}
	switch x.rnd.IntN(4) {
	case 0:
		return n.synced
	case 1:
		return n.data
	}
	size := n.stable
	switch rest := len(n.data) - n.stable; {
	case rest == 0:
	case x.survives():
		size = len(n.data)
	default:
		size += x.rnd.IntN(rest + 1)
	}
	torn := bytes.Clone(n.data[:size])
	for off, block := n.stable, 1<<x.rnd.IntN(13); off < size; off += block {
		if !x.survives() {
			clear(torn[off:min(off+block, size)])
		}
	}
	return torn
}

// Write makes the directory of that name, which must not exist, with what is left in
// it.
func (i *Image) Write(dir string) error {
	w := writer{linked: map[*remains]string{}}
	if err := w.write(dir, i.root); err != nil {
		return fmt.Errorf("write what is left: %w", err)
	}
	return nil
}

type writer struct{ linked map[*remains]string }

func (w writer) write(name string, r *remains) error {
	if r.names == nil {
		if first, ok := w.linked[r]; ok {
			return os.Link(first, name)
		}
		w.linked[r] = name
		return os.WriteFile(name, r.data, 0o600)
	}
	if err := os.Mkdir(name, 0o700); err != nil {
		return err
	}
	for base, child := range r.names {
		if err := w.write(filepath.Join(name, base), child); err != nil {
			return err
		}
	}
	return nil
}
