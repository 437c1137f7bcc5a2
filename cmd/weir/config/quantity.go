package config

import (
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/weir-registry/weir/origin"
)

// Duration is a time span that is not negative: Go's notation, and days ("36h",
// "30d", "1d12h").
type Duration time.Duration

// Std is the duration in the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String gives the shortest notation that reads back as d.
func (d Duration) String() string {
	t := time.Duration(d)
	switch {
	case t == 0:
		return "0s"
	case t%day == 0:
		return strconv.FormatInt(int64(t/day), 10) + "d"
	}
	s := t.String()
	if rest, ok := strings.CutSuffix(s, "m0s"); ok {
		s = rest + "m"
	}
	if rest, ok := strings.CutSuffix(s, "h0m"); ok {
		s = rest + "h"
	}
	return s
}

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	bad := fmt.Errorf("%s is no duration: write numbers and units, such as 90s, 24h or 30d", origin.Quote(s))
	var total time.Duration
	if days, rest, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 31)
		if err != nil {
			return bad
		}
		if n > uint64(math.MaxInt64/day) {
			return fmt.Errorf("%s is too long", origin.Quote(s))
		}
		total = time.Duration(n) * day
		if s = rest; s == "" {
			*d = Duration(total)
			return nil
		}
	}
	t, err := time.ParseDuration(s)
	if err != nil {
		return bad
	}
	if t < 0 || strings.HasPrefix(s, "-") {
		return fmt.Errorf("%s is negative", origin.Quote(string(text)))
	}
	if total > math.MaxInt64-t {
		return fmt.Errorf("%s is too long", origin.Quote(string(text)))
	}
	*d = Duration(total + t)
	return nil
}

// Size is a number of bytes that is not negative, written plainly or with a unit:
// KiB MiB GiB TiB are powers of 1024, KB MB GB TB powers of 1000.
type Size int64

type unit struct {
	name string
	size Size
}

func units() []unit {
	return []unit{
		{"TiB", 1 << 40},
		{"GiB", 1 << 30},
		{"MiB", 1 << 20},
		{"KiB", 1 << 10},
		{"TB", 1e12},
		{"GB", 1e9},
		{"MB", 1e6},
		{"KB", 1e3},
	}
}

// String gives the size in the unit that makes it the smallest whole number.
func (s Size) String() string {
	best := unit{"", 1}
	for _, u := range units() {
		if s%u.size == 0 && s/u.size < s/best.size {
			best = u
		}
	}
	return strconv.FormatInt(int64(s/best.size), 10) + best.name
}

// MarshalText implements [encoding.TextMarshaler].
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Size) UnmarshalText(text []byte) error {
	number, scale := string(text), Size(1)
	for _, u := range units() {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, scale = rest, u.size
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil {
		return fmt.Errorf("%s is no size: write a whole number and a unit (KiB MiB GiB TiB, KB MB GB TB, or none for bytes)", origin.Quote(string(text)))
	}
	if Size(n) > math.MaxInt64/scale {
		return fmt.Errorf("%s is too large", origin.Quote(string(text)))
	}
	*s = Size(n) * scale
	return nil
}

// Linger is how long a fill goes on after its last reader left.
type Linger struct {
	// Complete lets it go on to its end; For then means nothing.
	Complete bool
	For      Duration
}

// String gives "complete" or the duration.
func (l Linger) String() string {
	if l.Complete {
		return "complete"
	}
	return l.For.String()
}

// MarshalText implements [encoding.TextMarshaler].
func (l Linger) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (l *Linger) UnmarshalText(text []byte) error {
	if string(text) == "complete" {
		*l = Linger{Complete: true}
		return nil
	}
	*l = Linger{}
	if err := l.For.UnmarshalText(text); err != nil {
		return fmt.Errorf("%w; or write complete", err)
	}
	return nil
}

// Level is a level of logging; the zero Level is info.
type Level slog.Level

// Level implements [slog.Leveler].
func (l Level) Level() slog.Level { return slog.Level(l) }

// String gives the word for it.
func (l Level) String() string { return strings.ToLower(slog.Level(l).String()) }

// MarshalText implements [encoding.TextMarshaler].
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (l *Level) UnmarshalText(text []byte) error {
	for _, known := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if string(text) == Level(known).String() {
			*l = Level(known)
			return nil
		}
	}
	return fmt.Errorf("%s is no level: write debug, info, warn or error", origin.Quote(string(text)))
}

// Format is how log lines look.
type Format string

// The formats of log lines.
const (
	FormatAuto Format = "auto" // text on a terminal, else json
	FormatJSON Format = "json"
	FormatText Format = "text"
)

// MarshalText implements [encoding.TextMarshaler].
func (f Format) MarshalText() ([]byte, error) { return []byte(f), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (f *Format) UnmarshalText(text []byte) error {
	switch got := Format(text); got {
	case FormatAuto, FormatJSON, FormatText:
		*f = got
		return nil
	}
	return fmt.Errorf("%s is no format: write auto, json or text", origin.Quote(string(text)))
}
