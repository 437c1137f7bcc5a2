package egress

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is an Authorization header. No way of printing or encoding it shows it;
// the zero Secret is none.
//
// It is behind a pointer since fmt calls no methods of what is in unexported
// fields, but does not follow pointers there either.
type Secret struct{ value *string }

// Conceal makes a Secret of a header.
func Conceal(s string) Secret { return Secret{&s} }

// Reveal gives the header, "" for none.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

const hidden = "(secret)"

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
