package serve

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"syscall"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// cut is a failure after which no answer can be given, or none is wanted: a
// response's body has begun, or a request's body ended before its end.
type cut struct{ err error }

func (c *cut) Error() string { return c.err.Error() }
func (c *cut) Unwrap() error { return c.err }

// wireError is one error of an OCI error body (OCI Distribution 1.1, "Error codes").
type wireError struct {
	Code    origin.Code `json:"code"`
	Message string      `json:"message"`
	Detail  any         `json:"detail,omitempty"`
}

type wireErrors struct {
	Errors []wireError `json:"errors"`
}

// fail is the only place that answers with an error. It does not return where the
// connection is to be cut.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	ctx := r.Context()
	if gone := errors.Is(ctx.Err(), context.Canceled); gone {
		panic(http.ErrAbortHandler) // nobody reads an answer
	}
	id := origin.RequestOf(ctx).ID
	if c, ok := errors.AsType[*cut](err); ok {
		s.log.WarnContext(ctx, "body cut short", "error", c.err.Error(), "trace_id", id)
		panic(http.ErrAbortHandler)
	}
	e := clientError(err)
	status := e.HTTPStatus()
	wire := wireError{Code: e.Code, Message: e.Message, Detail: e.Detail}
	header := w.Header()
	if status >= 500 {
		s.log.ErrorContext(ctx, "request failed", "status", status, "error", err.Error(), "trace_id", id)
		if id != "" {
			header.Set("X-Request-Id", id)
			wire.Detail = map[string]string{"request_id": id}
		}
	}
	body, err := json.Marshal(wireErrors{[]wireError{wire}})
	if err != nil {
		// A detail that is no JSON: what matters is said without it.
		wire.Detail = nil
		body, _ = json.Marshal(wireErrors{[]wireError{wire}})
	}
	// What an answer that was being prepared said of its body holds no more.
	for _, key := range []string{"ETag", "Accept-Ranges", "Content-Range", "Docker-Content-Digest"} {
		if key != "Content-Range" || status != http.StatusRequestedRangeNotSatisfiable {
			header.Del(key)
		}
	}
	if cache := origin.RequestOf(ctx).Cache; cache != "" && header.Get("Weir-Cache") == "" {
		header.Set("Weir-Cache", string(cache))
	}
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = s.pace(w, r).Write(body)
	}
}

// clientError gives what a client may know of an error.
func clientError(err error) *origin.Error {
	switch e, ok := errors.AsType[*origin.Error](err); {
	case ok:
		return e
	case errors.Is(err, store.ErrRange):
		return origin.Errorf(origin.ErrSizeInvalid, "no byte of that range exists").WithStatus(http.StatusRequestedRangeNotSatisfiable)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return origin.Errorf(origin.ErrUnavailable, "no space is left").WithStatus(http.StatusInsufficientStorage)
	default:
		return &origin.Error{Code: origin.CodeUnknown, Message: "internal error"}
	}
}
