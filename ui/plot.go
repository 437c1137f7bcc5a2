package ui

import (
	"fmt"
	"strings"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/ui/view"
)

// A bar is a part of a whole, in thousandths, from the left. Drawings are SVG with their
// numbers in attributes: the policy of our pages lets nothing have a style of its own.
type bar struct {
	X, Width float64
	Class    string
	Label    string
}

const whole = 1000

// bars draws layers beside each other. Each is wide enough to be pointed at.
func bars(layers []view.Layer) []bar {
	const least, shades = 4, 6
	var total int64
	for _, l := range layers {
		total = origin.AddSizes(total, l.Size)
	}
	room := float64(whole - least*len(layers))
	if total == 0 || room < 0 {
		return nil
	}
	var list []bar
	at := 0.0
	for i, l := range layers {
		width := least + room*float64(l.Size)/float64(total)
		list = append(list, bar{at, width, fmt.Sprintf("shade%d", i%shades), fmt.Sprintf("Layer %d: %s", i+1, size(l.Size))})
		at += width
	}
	return list
}

// share is how much of all n is, in thousandths.
func share(n, all int64) int64 {
	if all <= 0 {
		return 0
	}
	return min(whole, max(0, n)*whole/all)
}

// usage draws what is used of a file system, and what of that the cache is.
func usage(c *view.Cache) []bar {
	d := c.Disk
	if d == nil {
		return nil
	}
	cache := min(c.Bytes, d.Total-d.Free)
	used := d.Total - d.Free - cache
	return []bar{
		{0, float64(share(cache, d.Total)), "shade0", "Cache: " + size(cache)},
		{float64(share(cache, d.Total)), float64(share(used, d.Total)), "used", "Other: " + size(used)},
	}
}

// plot is a line over a day, and what is below it.
type plot struct {
	Line  string // a path of steps, one for each point, with gaps
	Area  string // a path
	Label string
	Empty bool
}

const plotWidth, plotHeight = 192.0, 40.0

// draw makes a plot of values from 0 to 1; those that are not known are gaps.
func draw(label string, points []view.Point, value func(view.Point) (float64, bool)) plot {
	p := plot{Label: label, Empty: true}
	var line, area strings.Builder
	step := plotWidth / float64(len(points))
	before := false
	for i, point := range points {
		v, ok := value(point)
		if !ok {
			before = false
			continue
		}
		from, to, y := step*float64(i), step*float64(i+1), 1+(plotHeight-2)*(1-v)
		move := "M"
		if before {
			move = "L"
		}
		fmt.Fprintf(&line, "%s%.1f %.1f L%.1f %.1f ", move, from, y, to, y)
		fmt.Fprintf(&area, "M%.1f %.1f V%.1f H%.1f V%.1f Z ", from, plotHeight, y, to, plotHeight)
		p.Empty, before = false, true
	}
	p.Line, p.Area = strings.TrimSpace(line.String()), strings.TrimSpace(area.String())
	return p
}

func ratioPlot(up view.Upstream) plot {
	label := "No requests in 24 hours"
	if ratio, ok := up.Day.HitRatio(); ok {
		label = fmt.Sprintf("Hit ratio of %s over 24 hours: %s of %s requests", up.Name, percent(ratio), number(up.Day.Requests))
	}
	return draw(label, up.Day.Points, view.Point.HitRatio)
}

func savedPlot(up view.Upstream) plot {
	var most int64
	for _, p := range up.Day.Points {
		most = max(most, p.Saved())
	}
	return draw(fmt.Sprintf("Bytes saved of %s over 24 hours: %s", up.Name, size(up.Day.Saved())), up.Day.Points, func(p view.Point) (float64, bool) {
		return float64(p.Saved()) / float64(max(most, 1)), most > 0
	})
}
