package foreign

import (
	"context"
	"errors"

	"github.com/weir-registry/weir/origin"
)

// told is err as the error of weir's own registry: that another one stands behind it
// is not what a mirror decides by, which would take it for an upstream's.
func told(err error) error {
	if _, far := errors.AsType[*origin.UpstreamError](err); !far {
		return err
	}
	e, ok := errors.AsType[*origin.Error](err)
	if !ok {
		e = origin.ErrUnavailable
	}
	return origin.Wrap(e, errors.New(err.Error()))
}

// outage reports whether err says that the registry could not say, which is not the
// fault of who asked.
func outage(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	e, ok := errors.AsType[*origin.UpstreamError](err)
	return errors.Is(err, errSilent) || ok && (e.Outage() || e.Limited())
}
