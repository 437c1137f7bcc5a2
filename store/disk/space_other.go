//go:build !linux

package disk

import (
	"errors"
	"fmt"
)

// Space is not known here. Errors: always.
func (s *Store) Space() (free, total int64, err error) {
	return 0, 0, fmt.Errorf("space of %s: %w", s.dir, errors.ErrUnsupported)
}
