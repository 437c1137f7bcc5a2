package mirror

import (
	"errors"

	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/origin"
)

// absent reports whether the upstream said that something is not there, or that
// weir may not have it, which is the same to a client.
func absent(err error) bool {
	ue, ok := errors.AsType[*origin.UpstreamError](err)
	return ok && (ue.NotThere() || ue.Denied())
}

// reason says in a few words, for a client, why an upstream could not say.
func reason(u *Upstream, err error) string {
	ue, ok := errors.AsType[*origin.UpstreamError](err)
	switch {
	case !ok:
		return "upstream " + u.Name + " could not be asked"
	case ue.NotThere():
		return "upstream " + u.Name + " no longer has it"
	case ue.Denied():
		return "upstream " + u.Name + " denies access"
	case ue.Limited():
		return "upstream " + u.Name + " limits requests"
	case ue.Timeout:
		return "upstream " + u.Name + " did not answer in time"
	default:
		return "upstream " + u.Name + " is not available"
	}
}

// clientError is what a client is told of err; unknown is the error for what is
// not there. Errors that no upstream made pass as they are.
func clientError(u *Upstream, unknown *origin.Error, err error) error {
	if _, told := err.(*origin.Error); told { // the outermost says what it is to be
		return err
	}
	ue, ok := errors.AsType[*origin.UpstreamError](err)
	switch {
	case errors.Is(err, fill.ErrCorrupt):
		return origin.Outage(false, "upstream "+u.Name+" sent other content than was asked for", err)
	case errors.Is(err, fill.ErrClosed):
		return origin.Wrap(errClosing, err)
	case err == nil || !ok:
		return err
	case ue.NotThere(), ue.Denied():
		return origin.Wrap(unknown, err)
	case ue.Limited():
		// Never 429: containerd would ask again at once, five times.
		return origin.Wrap(origin.Errorf(origin.ErrUnavailable, "%s", reason(u, err)), err)
	default:
		return origin.Outage(ue.Timeout, reason(u, err), err)
	}
}
