package client

import (
	"errors"
	"strings"
)

// The lines around weir's part of a TOML file. The first words of each are what it
// is found by.
const (
	beginMark = "# >>> weir client"
	begin     = beginMark + ": it writes what follows, and takes it out again\n"
	end       = "# <<< weir client\n"
)

// block is weir's part with its marks around it.
func block(content string) string { return begin + content + end }

// withoutBlocks is text without weir's parts.
func withoutBlocks(text string) (string, error) {
	var rest strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		switch trimmed := strings.TrimSpace(line); {
		case strings.HasPrefix(trimmed, beginMark):
			if inside {
				return "", errUnbalanced
			}
			inside = true
		case trimmed == strings.TrimSpace(end):
			if !inside {
				return "", errUnbalanced
			}
			inside = false
		case !inside:
			rest.WriteString(line)
		}
	}
	if inside {
		return "", errUnbalanced
	}
	return rest.String(), nil
}

var errUnbalanced = errors.New(`the lines "# >>> weir client" and "# <<< weir client" are not in pairs: mend it by hand`)

// insert puts weir's part at offset, which is the start of a line or the end.
func insert(text string, offset int, content string) string {
	head := text[:offset]
	if head != "" && !strings.HasSuffix(head, "\n") {
		head += "\n"
	}
	return head + block(content) + text[offset:]
}
