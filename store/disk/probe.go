package disk

import (
	"context"
	"errors"
	"fmt"
)

// probeSize is what a probe writes: a block, so that a file system without room says so.
const probeSize = 4096

// Probe tells by its error whether the store could not take something now: it writes a
// small file, and removes it. Nothing is made durable by it.
func (s *Store) Probe(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.probe(); err != nil {
		return fmt.Errorf("probe store: %w", err)
	}
	return nil
}

func (s *Store) probe() error {
	if err := s.here(); err != nil {
		return err
	}
	leave := s.dirs.stay()
	defer leave()
	if err := s.dirs.find(tmpDir); err != nil {
		return err
	}
	name, err := s.temp(make([]byte, probeSize))
	if err != nil {
		return err
	}
	return errors.Join(s.fs.Remove(name))
}
