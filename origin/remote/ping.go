package remote

import (
	"context"
	"net/http"

	"github.com/weir-registry/weir/origin"
)

// Ping asks whether the endpoint is there: GET /v2/, without credentials. That it
// wants some, or has no such page, is an answer too. Errors: an
// *origin.UpstreamError for no answer, 5xx and 429; ctx's.
func (r *Registry) Ping(ctx context.Context) error {
	a, err := r.out.follow(ctx, question{method: http.MethodGet, url: r.root}, secret{})
	if err != nil {
		return r.failure(ctx, origin.ErrUnavailable, err)
	}
	defer a.discard()
	if a.StatusCode >= http.StatusInternalServerError || a.StatusCode == http.StatusTooManyRequests {
		return r.failure(ctx, origin.ErrUnavailable, a.refusal())
	}
	// Whoever still waits for how it wants to be asked began when it was away.
	r.keys.flights.Forget("ping")
	return nil
}
