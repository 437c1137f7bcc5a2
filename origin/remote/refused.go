package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/weir-registry/weir/origin"
)

// refused gives the error of a write its meaning, as failure does for what is read.
// What an endpoint says of it in words is for the client too: it is about what that
// sent. missing is what a 404 without a code means.
func (o *Origin) refused(ctx context.Context, missing *origin.Error, err error) error {
	refused, ok := errors.AsType[*refusal](err)
	if ctx.Err() != nil || !ok || refused.status == 0 || refused.status >= 500 && refused.status != http.StatusNotImplemented || refused.status == http.StatusTooManyRequests {
		return o.failure(ctx, missing, err)
	}
	base := meaning(refused, missing)
	if refused.message != "" {
		base = origin.Errorf(base, "%s", origin.Quote(refused.message))
	}
	return &origin.UpstreamError{Endpoint: o.endpoint, Status: refused.status, Err: origin.Wrap(base, err)}
}

// meaning is the error that an endpoint's refusal of a write stands for: its code's,
// else its status's.
func meaning(r *refusal, missing *origin.Error) *origin.Error {
	switch r.code {
	case origin.CodeManifestBlobUnknown:
		return origin.ErrManifestBlobUnknown
	case origin.CodeBlobUnknown, origin.CodeManifestUnknown, origin.CodeNameUnknown:
		return missing
	case origin.CodeUploadUnknown:
		return origin.ErrUploadUnknown
	case origin.CodeUploadInvalid:
		return origin.ErrUploadInvalid
	case origin.CodeDigestInvalid:
		return origin.ErrDigestInvalid
	case origin.CodeManifestInvalid:
		return origin.ErrManifestInvalid
	case origin.CodeNameInvalid:
		return origin.ErrNameInvalid
	case origin.CodeTagInvalid:
		return origin.ErrTagInvalid
	case origin.CodeSizeInvalid:
		return origin.ErrSizeInvalid
	case origin.CodeUnsupported:
		return origin.ErrUnsupported
	}
	switch r.status {
	case http.StatusNotFound, http.StatusGone:
		return missing
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return origin.ErrUnsupported
	case http.StatusRequestEntityTooLarge:
		return origin.ErrSizeInvalid.WithStatus(http.StatusRequestEntityTooLarge)
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusPreconditionFailed:
		// A tag that may not move is the last two to some.
		return origin.ErrDenied
	case http.StatusRequestedRangeNotSatisfiable:
		return origin.ErrUploadInvalid
	default:
		return origin.Outage(false, fmt.Sprintf("the registry %s", r.text), nil)
	}
}
