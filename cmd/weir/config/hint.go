package config

import "strings"

// nearest is the known word that s is most likely a slip of, if any is near: at
// most two letters wrong, and no more than a third of them.
func nearest(s string, known []string) (string, bool) {
	const longest = 64 // no key is as long
	if len(s) > longest {
		return "", false
	}
	best, least := "", 3
	for _, k := range known {
		distance := edits(strings.ToLower(s), k)
		if distance < least && distance*3 <= max(len(s), len(k)) {
			best, least = k, distance
		}
	}
	return best, best != ""
}

// edits is how many letters must be put in, taken out, changed, or swapped with
// their neighbour to make b of a.
func edits(a, b string) int {
	var before, last []int // the rows of the table for a[:i-2] and a[:i-1]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
