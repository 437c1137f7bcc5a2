package config

import (
	"fmt"
	"strconv"

	"github.com/weir-registry/weir/origin"
)

// Share is a part of a whole, from 0 to 1.
type Share float64

// String gives it in decimal.
func (s Share) String() string { return strconv.FormatFloat(float64(s), 'f', -1, 64) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Share) UnmarshalText(text []byte) error {
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(0 <= f && f <= 1) { // which NaN is not
		return fmt.Errorf("%s is no share: write a number from 0 to 1, such as 0.01", origin.Quote(string(text)))
	}
	*s = Share(f)
	return nil
}
