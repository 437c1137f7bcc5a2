package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
)

const redacted = "<redacted>"

// Secret is a value that does not show itself: every way of printing, logging or
// marshalling it gives "<redacted>". The zero Secret is none.
//
// It is written directly, or as the name of a file under the key with _file
// appended (password_file); that file is read at each use, so that a rotated
// secret needs no reload.
type Secret struct {
	value *string // a pointer, for fmt prints fields before it asks for methods (%p)
	file  string
}

// NewSecret is the secret that is value; "" is none.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{value: &value}
}

// SecretFile is the secret that the named file holds.
func SecretFile(name string) Secret { return Secret{file: name} }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s == Secret{} }

// File is the file that holds it; "" if it was written directly.
func (s Secret) File() string { return s.file }

// Value is the secret itself, without the line end that a file may have.
// Errors: those of reading the file, with its name; a file without a secret is one.
func (s Secret) Value() (string, error) {
	switch {
	case s.value != nil:
		return *s.value, nil
	case s.file == "":
		return "", nil
	}
	b, err := readSmall(s.file)
	if err != nil {
		return "", err
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if value == "" {
		return "", &fs.PathError{Op: "read", Path: s.file, Err: errEmpty}
	}
	return value, nil
}

// errEmpty says that a file holds no secret: somebody is writing it, or has forgotten to.
var errEmpty = errors.New("it is empty")

// String gives "<redacted>".
func (Secret) String() string { return redacted }

// GoString gives "<redacted>".
func (Secret) GoString() string { return redacted }

// Format gives "<redacted>" whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue gives "<redacted>".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText gives "<redacted>".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON gives "<redacted>".
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalYAML gives "<redacted>".
func (Secret) MarshalYAML() (any, error) { return redacted, nil }

// largestFile bounds what a configuration refers to: passwords and PEM files.
const largestFile = 1 << 20

// readSmall reads a regular file of moderate size. A device or a pipe is refused:
// reading it could last for ever, and a second reading gives something else.
func readSmall(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("it is no regular file")}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(f, largestFile+1)); err != nil {
		return nil, err
	}
	if b.Len() > largestFile {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("it is larger than %s", Size(largestFile))}
	}
	return b.Bytes(), nil
}
