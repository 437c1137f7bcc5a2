package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/ui"
)

const (
	// endedPrefix is where the sessions of pages are recorded that were ended.
	endedPrefix = "ui/ended"
	// endedSlack is how much longer they are kept than they would have held: as far as the
	// clocks of two replicas may be apart.
	endedSlack = time.Hour
)

// endedSessions are those that somebody has signed out of, in what replicas share. The time
// at which one would have ended by itself comes first in its key, so that a list begins with
// those that can be forgotten.
type endedSessions struct{ records store.Records }

var _ ui.Ended = endedSessions{}

func endedKey(name string, until time.Time) string {
	return fmt.Sprintf("%s/%012d-%s", endedPrefix, until.Unix(), name)
}

// End implements ui.Ended.
func (e endedSessions) End(ctx context.Context, name string, until time.Time) error {
	_, err := e.records.Put(ctx, endedKey(name, until), []byte("ended"), store.Always())
	return err
}

// Ended implements ui.Ended.
func (e endedSessions) Ended(ctx context.Context, name string, until time.Time) (bool, error) {
	_, err := e.records.Get(ctx, endedKey(name, until))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// sweep forgets those whose time is over.
func (e endedSessions) sweep(ctx context.Context, now time.Time) error {
	var over []string
	for entry, err := range e.records.List(ctx, endedPrefix, "") {
		if err != nil {
			return err
		}
		text, _, _ := strings.Cut(strings.TrimPrefix(entry.Key, endedPrefix+"/"), "-")
		until, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("record %s: %w", entry.Key, err)
		}
		if now.Before(time.Unix(until, 0).Add(endedSlack)) {
			break
		}
		over = append(over, entry.Key)
	}
	for _, key := range over {
		if err := e.records.Delete(ctx, key, store.Always()); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}
