package main

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/serve"
)

// queue serves at most n requests at a time, until their bodies end. Others wait
// their turn, and after patience are told to come again.
func queue(next http.Handler, n int, patience time.Duration) http.Handler {
	if n == 0 {
		return next
	}
	turns := semaphore.NewWeighted(int64(n))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		waiting, stop := context.WithTimeout(r.Context(), patience)
		err := turns.Acquire(waiting, 1)
		stop()
		if err != nil {
			w.Header().Set("Retry-After", "1")
			serve.Error(w, r, origin.Errorf(origin.ErrUnavailable, "too many requests at once"))
			return
		}
		defer turns.Release(1)
		next.ServeHTTP(w, r)
	})
}
