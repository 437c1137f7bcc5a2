package remote

import (
	"fmt"
	"io"
	"log/slog"
)

// secret is an Authorization header. No way of printing or encoding it shows it;
// the zero secret is none.
//
// It is behind a pointer since fmt calls no methods of what is in unexported
// fields, but does not follow pointers there either.
type secret struct{ value *string }

func conceal(s string) secret { return secret{&s} }

// reveal gives the header, "" for none.
func (s secret) reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

const hidden = "(secret)"

// Format implements fmt.Formatter, for every verb.
func (secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue implements slog.LogValuer.
func (secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler.
func (secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
