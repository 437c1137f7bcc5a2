package lifetime

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// RetainReport is what came of a run.
type RetainReport struct {
	DryRun  bool          `json:"dry_run"`
	Deleted []RetainedTag `json:"deleted"`
	Kept    []RetainedTag `json:"kept"`
}

// RetainedTag is a tag that was judged, and what keeps it.
type RetainedTag struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag"`
	Digest     digest.Digest `json:"digest"`
	Rule       string        `json:"rule,omitempty"`
}

// What keeps a tag that no rule does.
const (
	ruleImmutable = "the tag is immutable"
	ruleAlone     = "the repository is left alone"
	ruleMoved     = "pushed meanwhile, or not to be deleted"
)

// keep takes note that a tag is kept.
func (r *RetainReport) keep(t RetainedTag, rule string) {
	t.Rule = rule
	r.Kept = append(r.Kept, t)
}

func (r *RetainReport) deleted(list []doomed) {
	for _, t := range list {
		r.Deleted = append(r.Deleted, t.RetainedTag)
	}
}

func (r *RetainReport) sort() {
	for _, list := range [][]RetainedTag{r.Deleted, r.Kept} {
		slices.SortFunc(list, func(a, b RetainedTag) int {
			return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Tag, b.Tag))
		})
	}
}

// Text writes the report for people.
func (r RetainReport) Text(w io.Writer) error {
	verb := "deleted"
	if r.DryRun {
		verb = "would delete"
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, d := range r.Deleted {
		fmt.Fprintf(t, "%s\t%s:%s\t%s\n", verb, d.Repository, d.Tag, d.Digest)
	}
	for _, k := range r.Kept {
		fmt.Fprintf(t, "kept\t%s:%s\t%s\t%s\n", k.Repository, k.Tag, k.Digest, k.Rule)
	}
	fmt.Fprintf(t, "%s %d tags, kept %d\n", verb, len(r.Deleted), len(r.Kept))
	return t.Flush()
}

// doomed is a tag that no rule keeps, and how it was read.
type doomed struct {
	RetainedTag
	was origin.Tagged
}
