package serve

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

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

// Error answers a request with an error, as the handler of [New] does, for
// handlers that stand before it; the request is then known by the route that it would
// have taken. What a client may not know of err is not told, and nothing is logged.
func Error(w http.ResponseWriter, r *http.Request, err error) {
	setVersion(w.Header())
	if request := origin.RequestOf(r.Context()); request.Route == "" {
		request.Route = template(r)
	}
	body := answer(w, r, clientError(err))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // whoever does not read it is not told twice
	}
}

// fail is the only place where a registry's errors are answered. It does not
// return where the connection is to be cut.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	ctx := r.Context()
	if errors.Is(ctx.Err(), context.Canceled) {
		panic(http.ErrAbortHandler) // nobody reads an answer
	}
	if c, ok := errors.AsType[*cut](err); ok {
		s.log.WarnContext(ctx, "body cut short", "error", c.err.Error(), "trace_id", origin.RequestOf(ctx).ID)
		panic(http.ErrAbortHandler)
	}
	e := clientError(err)
	if status := e.HTTPStatus(); status >= 500 {
		s.log.ErrorContext(ctx, "request failed", "status", status, "error", err.Error(), "trace_id", origin.RequestOf(ctx).ID)
	}
	body := answer(w, r, e)
	if r.Method != http.MethodHead {
		_, _ = s.pace(w, r).Write(body)
	}
}

// answer writes the header of an error's answer, and gives its body.
func answer(w http.ResponseWriter, r *http.Request, e *origin.Error) []byte {
	req, header := origin.RequestOf(r.Context()), w.Header()
	wire := wireError{Code: e.Code, Message: e.Message, Detail: e.Detail}
	status := e.HTTPStatus()
	if status >= 500 && req.ID != "" {
		header.Set("X-Request-Id", req.ID)
		wire.Detail = map[string]string{"request_id": req.ID}
	}
	body, err := json.Marshal(wireErrors{[]wireError{wire}})
	if err != nil {
		// A detail that is no JSON: what matters is said without it.
		wire.Detail = nil
		body, _ = json.Marshal(wireErrors{[]wireError{wire}})
	}
	// What an answer that was being prepared said of its body holds no more.
	for _, key := range []string{"ETag", "Accept-Ranges", "Docker-Content-Digest"} {
		header.Del(key)
	}
	if req.Cache != "" && header.Get("Weir-Cache") == "" {
		header.Set("Weir-Cache", string(req.Cache))
	}
	if status == http.StatusServiceUnavailable && header.Get("Retry-After") == "" {
		header.Set("Retry-After", "1") // second: what is unavailable by our own doing soon is not
	}
	if status == http.StatusUnauthorized {
		header["Www-Authenticate"] = req.Challenge
	}
	header.Set("Content-Type", "application/json")
	setNoSniff(header)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if r.ProtoMajor == 1 && unread(r) {
		// Else the server reads what is left before it answers, and a client that
		// waits for the answer before it sends the rest waits for ever.
		header.Set("Connection", "close")
	}
	w.WriteHeader(status)
	return body
}

// clientError gives what a client may know of an error.
func clientError(err error) *origin.Error {
	switch e, ok := errors.AsType[*origin.Error](err); {
	case ok:
		return e
	case errors.Is(err, store.ErrRange):
		return origin.Errorf(origin.ErrSizeInvalid, "no byte of that range exists").WithStatus(http.StatusRequestedRangeNotSatisfiable)
	case errors.Is(err, store.ErrBusy): // by another process, which an upload's beginning could not see
		return errWritten
	case store.NoRoom(err):
		return origin.Errorf(origin.ErrUnavailable, "no space is left").WithStatus(http.StatusInsufficientStorage)
	default:
		return &origin.Error{Code: origin.CodeUnknown, Message: "internal error"}
	}
}
