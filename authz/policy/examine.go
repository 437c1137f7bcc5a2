package policy

import (
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
)

// findings are what can be said of a rule without asking it.
type findings struct {
	reads reads
	loops bool
	// null is what it compares with null though it never is; else "".
	null string
}

// examine looks through a checked rule.
func examine(checked *cel.Ast) findings {
	var found findings
	tree := checked.NativeRep()
	selected := map[int64]bool{} // the operands of selections, by id
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			of := e.AsSelect().Operand()
			if isRequest(of) {
				// A variable of a loop may have that name too: then this says too much.
				selected[of.ID()] = true
				found.reads |= readsOf(e.AsSelect().FieldName())
			}
		case ast.IdentKind:
			if isRequest(e) && !selected[e.ID()] {
				found.reads = readsAll
			}
		case ast.ComprehensionKind:
			found.loops = true
		case ast.CallKind:
			call := e.AsCall()
			if name := call.FunctionName(); (name == operators.Equals || name == operators.NotEquals) && len(call.Args()) == 2 {
				for i, arg := range call.Args() {
					other := call.Args()[1-i]
					if isNull(arg) && tree.GetType(other.ID()).Kind() == types.StructKind {
						found.null = path(other)
					}
				}
			}
		}
	}))
	return found
}

// isRequest reports whether e is the variable, which may be written with a dot before it.
func isRequest(e ast.Expr) bool {
	return e.Kind() == ast.IdentKind && strings.TrimPrefix(e.AsIdent(), ".") == "request"
}

func isNull(e ast.Expr) bool { return e.Kind() == ast.LiteralKind && e.AsLiteral() == types.NullValue }

// path is a selection as it is written.
func path(e ast.Expr) string {
	switch e.Kind() {
	case ast.SelectKind:
		return path(e.AsSelect().Operand()) + "." + e.AsSelect().FieldName()
	case ast.IdentKind:
		return e.AsIdent()
	}
	return "it"
}
