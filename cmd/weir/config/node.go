package config

import "slices"

type kind int

const (
	null kind = iota
	scalar
	mapping
	sequence
)

func (k kind) String() string {
	return [...]string{"nothing", "a single value", "a map", "a list"}[k]
}

// node is YAML reduced to what a configuration needs: scalars are text, whose
// meaning the destination decides.
type node struct {
	kind  kind
	at    Position // a scalar's own; else the key's or the list item's
	text  string   // of a scalar
	pairs []pair   // of a mapping, in the order written
	items []*node  // of a sequence
}

type pair struct {
	key   string
	at    Position // the key's
	value *node
}

func (n *node) index(key string) int {
	return slices.IndexFunc(n.pairs, func(p pair) bool { return p.key == key })
}

// merge lays over on top of n: maps merge, everything else is replaced. A key
// without a value takes nothing from a map.
func (n *node) merge(over *node) *node {
	if n.kind == mapping && over.kind == null {
		return n
	}
	if n.kind != mapping || over.kind != mapping {
		return over
	}
	merged := &node{kind: mapping, at: over.at, pairs: slices.Clone(n.pairs)}
	for _, p := range over.pairs {
		if i := merged.index(p.key); i >= 0 {
			p.value = merged.pairs[i].value.merge(p.value)
			merged.pairs[i] = p
			continue
		}
		merged.pairs = append(merged.pairs, p)
	}
	return merged
}
