//go:build clients || chaos || browser

package conformance

import (
	"context"
	"testing"
	"time"
)

// wait lets time pass.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// until waits for what happens in the end.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	for !so() {
		if wait(ctx, 50*time.Millisecond); ctx.Err() != nil {
			t.Errorf("never: %s", what)
			return
		}
	}
}
