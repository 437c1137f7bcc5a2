package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/weir-registry/weir/origin"
)

// Free is how much of a file system stays free: a share of it ("5%", "2.5%") or a size
// ("10GiB"). The zero Free is none.
type Free struct {
	// Basis is the share in hundredths of a percent; then Size means nothing.
	Basis int
	Size  Size
}

// Of is that of a file system of total bytes, in bytes.
func (f Free) Of(total int64) int64 {
	if f.Basis == 0 {
		return int64(f.Size)
	}
	const whole = 100_00
	// Without losing bits: total may be all that an int64 holds.
	return total/whole*int64(f.Basis) + total%whole*int64(f.Basis)/whole
}

// String gives the share or the size.
func (f Free) String() string {
	if f.Basis == 0 {
		return f.Size.String()
	}
	return strconv.FormatFloat(float64(f.Basis)/100, 'f', -1, 64) + "%"
}

// MarshalText implements [encoding.TextMarshaler].
func (f Free) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (f *Free) UnmarshalText(text []byte) error {
	share, ok := strings.CutSuffix(string(text), "%")
	if !ok {
		*f = Free{}
		if err := f.Size.UnmarshalText(text); err != nil {
			return fmt.Errorf("%w; or a share of the file system, such as 5%%", err)
		}
		return nil
	}
	bad := fmt.Errorf("%s is no share of a file system: write 0%% to 99.99%%", origin.Quote(string(text)))
	number, fraction, cut := strings.Cut(share, ".")
	if cut && (fraction == "" || len(fraction) > 2) {
		return bad
	}
	n, err := strconv.ParseUint(number, 10, 8)
	if err != nil || n > 99 {
		return bad
	}
	// Two digits, so that 2.5 is 2.50.
	part, err := strconv.ParseUint((fraction + "00")[:2], 10, 8)
	if err != nil {
		return bad
	}
	*f = Free{Basis: int(n)*100 + int(part)}
	return nil
}
