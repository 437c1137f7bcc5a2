package client

import (
	"regexp"
	"strings"
)

// table is a table of a TOML file, as far as a reader of lines can tell: that is
// all it takes to put something between two of them without touching either.
type table struct {
	header     string // what is between the brackets; "" for the top of the file
	start, end int    // its lines, with the comment right above; it ends where the next begins
	values     map[string]string
}

// tablesOf cuts text into the top of the file and its tables.
func tablesOf(text string) []table {
	// A header begins with a bare key: a line of an array of arrays does not.
	header := regexp.MustCompile(`^\s*\[{1,2}\s*([A-Za-z0-9_-][^\[\]]*?)\s*\]{1,2}\s*(#.*)?$`)
	value := regexp.MustCompile(`^\s*([A-Za-z0-9_.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')`)
	tables := []table{{values: map[string]string{}}}
	offset, begins := 0, 0 // begins is where a header's comment would
	for line := range strings.Lines(text) {
		trimmed := strings.TrimRight(line, "\r\n")
		if m := header.FindStringSubmatch(trimmed); m != nil {
			tables[len(tables)-1].end = begins
			tables = append(tables, table{header: m[1], start: begins, values: map[string]string{}})
		} else if m := value.FindStringSubmatch(trimmed); m != nil {
			tables[len(tables)-1].values[m[1]] = m[2] + m[3]
		}
		offset += len(line)
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			begins = offset
		}
	}
	tables[len(tables)-1].end = offset
	return tables
}
