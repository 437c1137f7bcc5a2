package remote

import (
	"context"
	"net/http"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// Ping asks whether the endpoint is there: GET /v2/, without credentials. That it
// wants some, or has no such page, is an answer too. Errors: an
// *origin.UpstreamError for no answer, 5xx and 429; ctx's.
func (r *Registry) Ping(ctx context.Context) error {
	a, err := follow(ctx, r.out, egress.Request{URL: r.root}, egress.Secret{})
	if err != nil {
		return r.failure(ctx, origin.ErrUnavailable, err)
	}
	defer a.Discard()
	if a.StatusCode >= http.StatusInternalServerError || a.StatusCode == http.StatusTooManyRequests {
		return r.failure(ctx, origin.ErrUnavailable, a.refusal())
	}
	// Whoever still waits for how it wants to be asked began when it was away.
	r.keys.flights.Forget("ping")
	return nil
}
