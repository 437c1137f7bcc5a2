package lifetime

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Report is what came of a collection.
type Report struct {
	DryRun     bool   `json:"dry_run"`
	FreedBytes int64  `json:"freed_bytes"`
	Freed      int64  `json:"freed"` // blobs
	Kept       []Kept `json:"kept"`
}

// Kept is how much was kept for one reason.
type Kept struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
	Bytes  int64  `json:"bytes"`
}

// reason says why a blob is kept. Of several the greatest is told.
type reason uint8

const (
	fresh     reason = iota + 1 // its bytes came within the grace
	condemned                   // it goes with a later run
	busy                        // somebody was using it when it was to go
	leased                      // linked within the grace
	cached                      // only a mirror has it
	unread                      // a repository that has it could not be read
	named                       // a manifest names it
	reasons
)

// what each reason is called; and what unfinished uploads are.
var reasonNames = [reasons]string{
	fresh: "new", condemned: "condemned", busy: "in use", leased: "leased", cached: "cached", unread: "repository not readable", named: "named by a manifest",
}

const uploadReason = "upload under way"

// Text writes the report for people.
func (r Report) Text(w io.Writer) error {
	verb := "freed"
	if r.DryRun {
		verb = "would free"
	}
	if _, err := fmt.Fprintf(w, "%s %d blobs, %s\n", verb, r.Freed, size(r.FreedBytes)); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, k := range r.Kept {
		fmt.Fprintf(t, "kept\t%d\t%s\t%s\n", k.Count, size(k.Bytes), k.Reason)
	}
	return t.Flush()
}

// size writes bytes for people.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}
