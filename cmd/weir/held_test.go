package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
)

// groups is a log that knows what was written to it at once.
type groups struct {
	mu     sync.Mutex
	writes []string
	err    error
}

func (g *groups) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writes = append(g.writes, string(p))
	return len(p), g.err
}

func (g *groups) want(t *testing.T, when string, want ...string) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if fmt.Sprint(g.writes) != fmt.Sprint(want) {
		t.Errorf("%s: written %q, want %q", when, g.writes, want)
	}
}

func TestLinesAreHeldAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g groups
		h := newHeld(&g)
		fmt.Fprintln(h, "one")
		time.Sleep(heldFor - time.Nanosecond)
		fmt.Fprintln(h, "two")
		g.want(t, "before its time")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		g.want(t, "when the first has waited", "one\ntwo\n")
		time.Sleep(time.Hour)
		fmt.Fprintln(h, "three")
		time.Sleep(heldFor)
		synctest.Wait()
		g.want(t, "the next", "one\ntwo\n", "three\n")
		fmt.Fprintln(h, "four")
		if err := h.release(); err != nil {
			t.Error(err)
		}
		g.want(t, "released", "one\ntwo\n", "three\n", "four\n")
		fmt.Fprintln(h, "five")
		fmt.Fprintln(h, "six")
		g.want(t, "each as it comes", "one\ntwo\n", "three\n", "four\n", "five\n", "six\n")
	})
}

func TestManyLinesWaitNoLonger(t *testing.T) {
	var g groups
	h := newHeld(&g)
	t.Cleanup(func() { _ = h.release() })
	half := strings.Repeat("x", heldSize/2)
	for range 3 {
		_, _ = h.Write([]byte(half))
	}
	g.want(t, "three halves", half+half)
	long := strings.Repeat("y", heldSize+1)
	_, _ = h.Write([]byte(long))
	g.want(t, "and a long one", half+half, half, long)
}

// What could not be written is not written later, between other lines.
func TestLinesThatFail(t *testing.T) {
	g := groups{err: errors.New("no room")}
	h := newHeld(&g)
	fmt.Fprintln(h, "one")
	if err := h.flush(); !errors.Is(err, g.err) {
		t.Errorf("flush: %v", err)
	}
	fmt.Fprintln(h, "two")
	if err := h.release(); !errors.Is(err, g.err) {
		t.Errorf("release: %v", err)
	}
	g.want(t, "each once", "one\n", "two\n")
}

// Of many who write at once no line is lost, torn or written twice.
func TestLinesOfMany(t *testing.T) {
	var out bytes.Buffer
	h := newHeld(&out)
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 1000 {
				fmt.Fprintf(h, "%d %d %s\n", w, i, strings.Repeat("x", i%50))
			}
		})
	}
	all.Wait()
	if err := h.release(); err != nil {
		t.Fatal(err)
	}
	next := [8]int{}
	for line := range strings.Lines(out.String()) {
		var w, i int
		var rest string
		if n, _ := fmt.Sscan(line, &w, &i, &rest); n < 2 || i != next[w] || len(rest) != i%50 {
			t.Fatalf("%q is not the next line of its writer", line)
		}
		next[w]++
	}
	for w, n := range next {
		if n != 1000 {
			t.Errorf("writer %d: %d lines", w, n)
		}
	}
}

func TestWarningsWaitForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g groups
		l := newLogs(&g, config.Log{Format: config.FormatJSON})
		defer l.release()
		log := l.room("server").With("a", 1)
		log.Info("first")
		g.want(t, "an info")
		log.Warn("second")
		if len(g.writes) != 1 || strings.Count(g.writes[0], "\n") != 2 {
			t.Errorf("written: %q", g.writes)
		}
	})
}

// slowLog takes its time with each write, until it is let go.
type slowLog struct{ begun, let chan struct{} }

func (s slowLog) Write(p []byte) (int, error) {
	s.begun <- struct{}{}
	<-s.let
	return len(p), nil
}

// Whoever logs waits for the log's file only where nothing more can be held.
func TestLinesWaitForNoWrite(t *testing.T) {
	s := slowLog{make(chan struct{}), make(chan struct{})}
	h := newHeld(s)
	fmt.Fprintln(h, "one")
	flushed := make(chan error, 1)
	go func() { flushed <- h.flush() }()
	<-s.begun
	_, _ = h.Write(bytes.Repeat([]byte("x"), heldSize))
	s.let <- struct{}{}
	if err := <-flushed; err != nil {
		t.Error(err)
	}
	go func() { flushed <- h.release() }()
	<-s.begun
	close(s.let)
	if err := <-flushed; err != nil {
		t.Error(err)
	}
}
