package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A report is what a run found. Its JSON is what is kept.
type report struct {
	Started time.Time `json:"started"`
	Go      string    `json:"go"`
	System  string    `json:"system"`
	CPUs    int       `json:"cpus"`
	Rows    []*result `json:"rows"`
}

// A result is what one row found.
type result struct {
	Name     string             `json:"name"`
	Work     string             `json:"work"`
	Measures []finding          `json:"measures"`
	Failures map[string]string  `json:"failures,omitempty"` // by server
	Profile  string             `json:"profile,omitempty"`  // file beside the report
	Top      []string           `json:"top,omitempty"`      // what the profile says, most CPU first
	row      row                // what was run
	values   map[string]values  // by server
	took     map[string]float64 // seconds of the measured part, by server
}

// A finding is one measure of a row.
type finding struct {
	Name    string           `json:"name"`
	Unit    string           `json:"unit"`
	Values  map[string]value `json:"values"` // by server
	Goal    string           `json:"goal,omitempty"`
	Verdict verdict          `json:"verdict"`
	Ratio   float64          `json:"ratio,omitempty"` // ours to the peer's
	To      string           `json:"ratioTo,omitempty"`
}

func newReport(now time.Time) *report {
	return &report{Started: now.UTC().Truncate(time.Second), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU()}
}

// name is the report's, for files: it sorts by time.
func (r *report) name() string { return r.Started.Format("2006-01-02T15-04-05Z") }

// row begins a result.
func (r *report) row(w row) *result {
	f := &result{
		Name: w.name, Work: w.work, row: w,
		Failures: map[string]string{}, values: map[string]values{}, took: map[string]float64{},
	}
	r.Rows = append(r.Rows, f)
	return f
}

// note takes over what a server reached, or why it did not.
func (f *result) note(server string, v values, measured time.Duration, err error) {
	f.values[server] = v
	f.took[server] = measured.Seconds()
	if err != nil {
		f.Failures[server] = err.Error()
	}
}

// judge compares everything with its goals.
func (r *report) judge() {
	for _, f := range r.Rows {
		f.Measures = f.Measures[:0]
		for _, m := range f.row.measures {
			have := map[string]value{}
			for server, v := range f.values {
				if x, ok := v[m.name]; ok {
					have[server] = x
				}
			}
			found := finding{Name: m.name, Unit: m.unit, Values: have}
			found.Verdict, found.Goal, found.To = m.judge(have)
			if _, bad := f.Failures[weir]; bad {
				found.Verdict = failed
			}
			ours, peer := have[weir], have[found.To]
			if ours.Text == "" && peer.Text == "" && peer.Number > 0 {
				found.Ratio = ours.Number / peer.Number
			} else {
				found.To = ""
			}
			f.Measures = append(f.Measures, found)
		}
	}
}

// missed says whether a row has a goal that was not reached.
func (f *result) missed() bool {
	return slices.ContainsFunc(f.Measures, func(m finding) bool { return m.Verdict == missed })
}

// failure is an error when weir failed in any row.
func (r *report) failure() error {
	var err error
	for _, f := range r.Rows {
		for _, server := range []string{weir, direct, directAnew} {
			if text, bad := f.Failures[server]; bad {
				err = errors.Join(err, fmt.Errorf("%s: %s: %s", f.Name, server, text))
			}
		}
	}
	return err
}

// columns are the servers in the order in which the table shows them.
func columns() []string {
	return []string{direct, directAnew, distribution, dockerRegistry, olareg, nginx, weir}
}

// table writes everything as one table, then what the profiles and failures say.
func (r *report) table(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "row\tmeasure\tunit\t%s\tratio\tgoal\t\n", strings.Join(columns(), "\t"))
	for _, f := range r.Rows {
		name := f.Name
		for _, m := range f.Measures {
			fmt.Fprintf(t, "%s\t%s\t%s\t", name, m.Name, m.Unit)
			name = ""
			for _, server := range columns() {
				text := ""
				if v, ok := m.Values[server]; ok {
					text = v.String()
				} else if _, bad := f.Failures[server]; bad {
					text = "failed"
				}
				fmt.Fprintf(t, "%s\t", text)
			}
			ratio := ""
			if m.To != "" {
				ratio = short(m.Ratio) + " × " + m.To
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", ratio, m.Goal, m.Verdict)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range r.Rows {
		for _, server := range slices.Sorted(maps.Keys(f.Failures)) {
			fmt.Fprintf(out, "\n%s, %s: %s\n", f.Name, server, f.Failures[server])
		}
		if len(f.Top) > 0 {
			fmt.Fprintf(out, "\n%s: where weir's CPU went (%s)\n  %s\n", f.Name, f.Profile, strings.Join(f.Top, "\n  "))
		}
	}
	return nil
}

// save writes the report below dir and gives the file's name.
func (r *report) save(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, r.name()+".json")
	return file, os.WriteFile(file, append(text, '\n'), 0o644)
}

func (v values) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		parts = append(parts, name+" "+v[name].String())
	}
	return strings.Join(parts, ", ")
}
