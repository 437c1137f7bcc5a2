package main

import (
	"fmt"
	"strconv"
)

// A measure is one number of a row.
type measure struct {
	name   string // also its key among the values
	unit   string
	goals  []goal // all of them must be reached
	beside string // the peer to give a ratio to when no goal names one
}

// A goal is a bound for weir: a number, or a multiple of what a peer reached.
type goal struct {
	least    bool // else most
	times    float64
	peer     string // "" = times is the bound itself
	standIns []standIn
}

// A standIn says what a peer reached in terms of another, when both were measured.
// It is asked when the goal's own peer is not to be had; the first that is there counts.
type standIn struct {
	peer  string
	ratio float64
}

func atMost(x float64) goal  { return goal{times: x} }
func atLeast(x float64) goal { return goal{least: true, times: x} }

func atMostTimes(x float64, peer string, s ...standIn) goal {
	return goal{times: x, peer: peer, standIns: s}
}

func atLeastTimes(x float64, peer string, s ...standIn) goal {
	return goal{least: true, times: x, peer: peer, standIns: s}
}

// A verdict is what became of a goal.
type verdict string

const (
	reached verdict = "ok"
	missed  verdict = "MISS"
	failed  verdict = "FAILED" // it was to be measured, and did not work
	unknown verdict = "-"      // there is nothing to compare with, or no goal
)

// sign is how a goal reads.
func (g goal) sign() string {
	if g.least {
		return "≥"
	}
	return "≤"
}

// describe gives the goal as text: reference is the peer that its bound was computed
// from, if any, and times the multiple of that one.
func (g goal) describe(reference string, times float64) string {
	switch {
	case g.peer == "":
		return g.sign() + " " + short(g.times)
	case reference == g.peer || reference == "":
		return fmt.Sprintf("%s %s × %s", g.sign(), short(g.times), g.peer)
	default:
		return fmt.Sprintf("%s %s × %s (as %s × %s)", g.sign(), short(g.times), g.peer, short(times), reference)
	}
}

// bound gives the number to reach, from what the servers reached, with the peer that
// it was computed from and the multiple of that one. ok is false when there is none
// to compute it from.
func (g goal) bound(have map[string]value) (x float64, reference string, times float64, ok bool) {
	if g.peer == "" {
		return g.times, "", 0, true
	}
	for _, s := range append([]standIn{{g.peer, 1}}, g.standIns...) {
		if v, there := have[s.peer]; there && v.Text == "" {
			times = g.times * s.ratio
			return v.Number * times, s.peer, times, true
		}
	}
	return 0, "", 0, false
}

// judge compares what weir reached with a measure's goals. It gives the goals as
// text and the peer to which a ratio is worth giving.
func (m measure) judge(have map[string]value) (v verdict, text, reference string) {
	ours, there := have[weir]
	v, reference = unknown, m.beside
	for _, g := range m.goals {
		bound, peer, times, ok := g.bound(have)
		if text != "" {
			text += ", "
		}
		text += g.describe(peer, times)
		if peer != "" {
			reference = peer
		}
		switch {
		case !ok || !there:
			continue
		case ours.Text != "", g.least && ours.Number < bound, !g.least && ours.Number > bound:
			v = missed
		case v == unknown:
			v = reached
		}
	}
	return v, text, reference
}

// short writes a number with as many digits as are worth reading.
func short(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x >= 100 || x <= -100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10 || x <= -10:
		return trim(strconv.FormatFloat(x, 'f', 1, 64))
	}
	return trim(strconv.FormatFloat(x, 'f', 2, 64))
}

// trim takes the zeros from the end of a decimal fraction.
func trim(s string) string {
	for s[len(s)-1] == '0' {
		s = s[:len(s)-1]
	}
	if s[len(s)-1] == '.' {
		return s[:len(s)-1]
	}
	return s
}

func (v value) String() string {
	if v.Text != "" {
		return v.Text
	}
	return short(v.Number)
}
