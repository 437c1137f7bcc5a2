package main

import (
	"reflect"
	"slices"
	"sync"
)

// pool is what several configurations have in common: what one says as another did is
// not made again, and what was learnt with it stays known. The zero pool is ready.
type pool[T any] struct {
	mu    sync.Mutex
	parts []*part[T]
}

type part[T any] struct {
	of    any // what a configuration says of it
	value T
	close func()
	users int
}

// take gives what of describes, which make makes unless it is there. It is closed when all
// have released it who took it. Errors: those of make.
func (p *pool[T]) take(of any, make func() (value T, close func(), err error)) (value T, release func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.parts {
		if reflect.DeepEqual(x.of, of) {
			x.users++
			return x.value, sync.OnceFunc(func() { p.release(x) }), nil
		}
	}
	x := &part[T]{of: of, users: 1}
	if x.value, x.close, err = make(); err != nil {
		return value, nil, err
	}
	p.parts = append(p.parts, x)
	return x.value, sync.OnceFunc(func() { p.release(x) }), nil
}

func (p *pool[T]) release(x *part[T]) {
	p.mu.Lock()
	x.users--
	last := x.users == 0
	if last {
		p.parts = slices.DeleteFunc(p.parts, func(other *part[T]) bool { return other == x })
	}
	p.mu.Unlock()
	if last {
		x.close()
	}
}

// any reports whether one of those that are in use is described so.
func (p *pool[T]) any(so func(of any) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.parts, func(x *part[T]) bool { return so(x.of) })
}
