package disktest

import "maps"

// node is a file or a directory: what is in it now, and what of that is durable.
type node struct {
	// Of a file. data is only ever appended to, or replaced: what shares its bytes
	// keeps them.
	data   []byte
	synced []byte // data when it was synced last
	stable int    // how many bytes of synced were never cut off since

	// Of a directory; nil in a file.
	names   map[string]*node
	durable map[string]*node
	pending []*change // what makes names of durable, in order
}

// entry is what a name is: nil for nothing.
type entry struct {
	name string
	node *node
}

// change is a change of a name that is not durable for all one knows.
type change struct {
	entry
	after *change // happens no sooner than that
	sure  bool    // will be durable
}

func newDir() *node {
	return &node{names: map[string]*node{}, durable: map[string]*node{}}
}

func (n *node) dir() bool { return n.names != nil }

// change changes a name of a directory.
func (n *node) change(e entry) *change {
	if e.node == nil {
		delete(n.names, e.name)
	} else {
		n.names[e.name] = e.node
	}
	c := &change{entry: e}
	n.pending = append(n.pending, c)
	return c
}

// rename moves a node. That the old name goes waits for the new one.
func rename(source *node, from string, target *node, to string, n *node) {
	there := target.change(entry{to, n})
	source.change(entry{from, nil}).after = there
}

// sync makes durable what is in a file, or which names a directory has.
func (n *node) sync() {
	if !n.dir() {
		n.synced, n.stable = n.data, len(n.data)
		return
	}
	for _, c := range n.pending {
		c.sure = true
		if c.after != nil {
			c.after.sure = true
		}
	}
	n.pending = nil
	n.durable = maps.Clone(n.names)
}

// syncAll syncs all that is below too.
func (n *node) syncAll() {
	for _, child := range n.names {
		child.syncAll()
	}
	n.sync()
}

func (n *node) truncate(size int64) error {
	if size > int64(len(n.data)) {
		return errGrown
	}
	n.data = n.data[:size:size] // what is written next does not touch what synced has
	n.stable = min(n.stable, int(size))
	return nil
}
