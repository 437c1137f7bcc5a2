package basic

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the longest name of a user, in bytes.
const maxName = 255

// User is somebody with a password.
type User struct {
	Name string
	Hash Hash
}

// CheckName says why a name cannot be a user's: a colon ends it where it is written.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a user without a name")
	case len(name) > maxName:
		return fmt.Errorf("the name of a user is longer than %d bytes", maxName)
	case strings.Contains(name, ":"):
		return errors.New("the name of a user holds a colon")
	case !utf8.ValidString(name), strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("the name of a user holds a control character, or is no text")
	}
	return nil
}

// ParseHtpasswd parses a file of lines name:hash, as Apache's htpasswd writes them.
// Empty lines, and those that begin with "#", are remarks. Everything else is refused,
// with the number of the line and without its text, and so is a name that comes twice,
// and a file that has nothing in it: it is about to be written.
func ParseHtpasswd(text string) ([]User, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("it is empty")
	}
	var users []User
	seen := map[string]int{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		u, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if first, again := seen[u.Name]; again {
			return nil, fmt.Errorf("line %d: the user of line %d again", n, first)
		}
		seen[u.Name] = n
		users = append(users, u)
	}
	return users, nil
}

func parseLine(line string) (User, error) {
	name, hash, ok := strings.Cut(line, ":")
	if !ok {
		return User{}, errors.New("no name:hash")
	}
	if err := CheckName(name); err != nil {
		return User{}, err
	}
	h, err := ParseHash(hash)
	return User{Name: name, Hash: h}, err
}
