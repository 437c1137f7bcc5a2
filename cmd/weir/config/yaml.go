package config

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// reader turns the text of one file into nodes.
type reader struct {
	file  string
	order int
	errs  *Errors
}

func (r *reader) at(t *token.Token) Position {
	p := Position{File: r.file, Line: 1, order: r.order}
	if t != nil && t.Position != nil {
		p.Line = t.Position.Line
	}
	return p
}

// read gives the mapping that the file holds, or nil after reporting why not.
func (r *reader) read(text []byte) *node {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	whole := Position{File: r.file, Line: 1, order: r.order}
	if i := firstBad(text); i >= 0 {
		whole.Line += bytes.Count(text[:i], []byte("\n"))
		r.errs.add(whole, "is not text: a byte that is no UTF-8, or a control character")
		return nil
	}
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.errs.add(r.syntax(err))
		return nil
	}
	var root *node
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentGroupType {
			continue
		}
		if root != nil {
			r.errs.add(r.at(doc.Body.GetToken()), "a second document begins here: write one, or several files")
			return nil
		}
		root = r.node(doc.Body, whole)
	}
	switch {
	case root == nil, root.kind == null:
		r.errs.add(whole, "is empty")
		return nil
	case root.kind != mapping:
		r.errs.add(root.at, "is %s: a configuration is a map, such as \"log: {level: debug}\"", root.kind)
		return nil
	}
	return root
}

// syntax is the parser's complaint, without the piece of the file that it quotes:
// that could hold a secret.
func (r *reader) syntax(err error) (Position, string, string) {
	at, message := r.at(nil), "cannot be read"
	if bad, ok := errors.AsType[yaml.Error](err); ok {
		at, message = r.at(bad.GetToken()), bad.GetMessage()
	}
	message, _, _ = strings.Cut(message, "\n")
	return at, "is no YAML: %s", message
}

// node converts n; where gives the position of what has none of its own.
func (r *reader) node(n ast.Node, where Position) *node {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return &node{kind: null, at: where}
	case *ast.StringNode:
		return r.scalar(n.Token, n.Value)
	case *ast.LiteralNode:
		return r.scalar(n.Start, n.Value.Value)
	case *ast.IntegerNode:
		return r.scalar(n.Token, n.Token.Value)
	case *ast.FloatNode:
		return r.scalar(n.Token, n.Token.Value)
	case *ast.BoolNode:
		return r.scalar(n.Token, n.Token.Value)
	case *ast.InfinityNode:
		return r.scalar(n.Token, n.Token.Value)
	case *ast.NanNode:
		return r.scalar(n.Token, n.Token.Value)
	case *ast.MappingNode:
		return r.mapping(n.Values, where)
	case *ast.MappingValueNode:
		return r.mapping([]*ast.MappingValueNode{n}, where)
	case *ast.SequenceNode:
		list := &node{kind: sequence, at: where}
		for _, item := range n.Values {
			at := where
			if item != nil {
				at = r.at(firstToken(item))
			}
			list.items = append(list.items, r.node(item, at))
		}
		return list
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		r.errs.add(r.at(n.GetToken()), "anchors, aliases and merge keys are not understood: write the value out")
	case *ast.TagNode:
		r.errs.add(r.at(n.GetToken()), "tags are not understood: leave out the !")
	default:
		r.errs.add(r.at(n.GetToken()), "%s is not understood here", n.Type().YAMLName())
	}
	return &node{kind: null, at: where}
}

func (r *reader) scalar(t *token.Token, text string) *node {
	return &node{kind: scalar, at: r.at(t), text: text}
}

func (r *reader) mapping(values []*ast.MappingValueNode, where Position) *node {
	m := &node{kind: mapping, at: where}
	for _, v := range values {
		at := r.at(v.Key.GetToken())
		key, ok := keyText(v.Key)
		if !ok {
			r.node(v.Key, at) // says why
			continue
		}
		if i := m.index(key); i >= 0 {
			r.errs.add(at, "%q is already set on line %d", key, m.pairs[i].at.Line)
			continue
		}
		m.pairs = append(m.pairs, pair{key, at, r.node(v.Value, at)})
	}
	return m
}

// keyText is a key as it is written: 1 and true are names like others.
func keyText(k ast.MapKeyNode) (string, bool) {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		return k.GetToken().Value, true
	}
	return "", false
}

// firstToken is where a node begins: a mapping's own token is its first colon.
func firstToken(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

// firstBad is the index of the first byte that no text file has, or -1.
func firstBad(text []byte) int {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size <= 1 ||
			r < ' ' && r != '\t' && r != '\n' && r != '\r' || 0x7f <= r && r < 0xa0 {
			return i
		}
		i += size
	}
	return -1
}
