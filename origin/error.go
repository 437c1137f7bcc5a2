package origin

import (
	"errors"
	"fmt"
	"net/http"
)

// Code is an error code of the OCI Distribution specification 1.1 ("Error
// codes"), or UNAVAILABLE and UNKNOWN, which registries in the field use too.
type Code string

// The codes.
const (
	CodeBlobUnknown         Code = "BLOB_UNKNOWN"
	CodeUploadInvalid       Code = "BLOB_UPLOAD_INVALID"
	CodeUploadUnknown       Code = "BLOB_UPLOAD_UNKNOWN"
	CodeDigestInvalid       Code = "DIGEST_INVALID"
	CodeManifestBlobUnknown Code = "MANIFEST_BLOB_UNKNOWN"
	CodeManifestInvalid     Code = "MANIFEST_INVALID"
	CodeManifestUnknown     Code = "MANIFEST_UNKNOWN"
	CodeNameInvalid         Code = "NAME_INVALID"
	CodeNameUnknown         Code = "NAME_UNKNOWN"
	CodeSizeInvalid         Code = "SIZE_INVALID"
	CodeTagInvalid          Code = "TAG_INVALID"
	CodeUnauthorized        Code = "UNAUTHORIZED"
	CodeDenied              Code = "DENIED"
	CodeUnsupported         Code = "UNSUPPORTED"
	CodeUnavailable         Code = "UNAVAILABLE"
	CodeUnknown             Code = "UNKNOWN"
)

// Error is an error that a client is meant to see. Two Errors are the same to
// errors.Is if they have the same Code.
type Error struct {
	Code    Code
	Message string // for the client: no internal paths, no secrets
	Detail  any    // for the client, encoded as JSON
	Status  int    // HTTP status; 0: the code's own
	err     error
}

// The errors that registries answer with. Make more telling ones of them with
// [Errorf] and [Wrap].
var (
	ErrBlobUnknown         = &Error{Code: CodeBlobUnknown, Message: "blob unknown to registry"}
	ErrUploadInvalid       = &Error{Code: CodeUploadInvalid, Message: "blob upload invalid"}
	ErrUploadUnknown       = &Error{Code: CodeUploadUnknown, Message: "blob upload unknown to registry"}
	ErrDigestInvalid       = &Error{Code: CodeDigestInvalid, Message: "provided digest did not match uploaded content"}
	ErrManifestBlobUnknown = &Error{Code: CodeManifestBlobUnknown, Message: "manifest references a manifest or blob unknown to registry"}
	ErrManifestInvalid     = &Error{Code: CodeManifestInvalid, Message: "manifest invalid"}
	ErrManifestUnknown     = &Error{Code: CodeManifestUnknown, Message: "manifest unknown to registry"}
	ErrNameInvalid         = &Error{Code: CodeNameInvalid, Message: "invalid repository name"}
	ErrNameUnknown         = &Error{Code: CodeNameUnknown, Message: "repository name not known to registry"}
	ErrSizeInvalid         = &Error{Code: CodeSizeInvalid, Message: "provided length did not match content length"}
	ErrTagInvalid          = &Error{Code: CodeTagInvalid, Message: "invalid tag"}
	ErrUnauthorized        = &Error{Code: CodeUnauthorized, Message: "authentication required"}
	ErrDenied              = &Error{Code: CodeDenied, Message: "requested access to the resource is denied"}
	ErrUnsupported         = &Error{Code: CodeUnsupported, Message: "the operation is unsupported"}
	ErrUnavailable         = &Error{Code: CodeUnavailable, Message: "service unavailable"}
)

// Error gives the message, and what was wrapped: it is for logs. A client is
// given Code, Message and Detail alone.
func (e *Error) Error() string {
	s := string(e.Code) + ": " + e.Message
	if e.err != nil {
		s += ": " + e.err.Error()
	}
	return s
}

// Is makes errors.Is compare codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.err }

// HTTPStatus is the status that the error is answered with.
func (e *Error) HTTPStatus() int {
	if e.Status != 0 {
		return e.Status
	}
	switch e.Code {
	case CodeBlobUnknown, CodeUploadUnknown, CodeManifestUnknown, CodeNameUnknown, CodeManifestBlobUnknown:
		return http.StatusNotFound
	case CodeUploadInvalid, CodeDigestInvalid, CodeManifestInvalid, CodeNameInvalid, CodeSizeInvalid, CodeTagInvalid:
		return http.StatusBadRequest
	case CodeUnauthorized:
		return http.StatusUnauthorized
	case CodeDenied:
		return http.StatusForbidden
	case CodeUnsupported:
		return http.StatusMethodNotAllowed
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// Errorf is base with a message of its own.
func Errorf(base *Error, format string, args ...any) *Error {
	e := *base
	e.Message = fmt.Sprintf(format, args...)
	return &e
}

// Wrap is base with a cause, which the client does not see.
func Wrap(base *Error, err error) *Error {
	e := *base
	e.err = err
	return &e
}

// WithStatus is e answered with another HTTP status.
func (e *Error) WithStatus(status int) *Error {
	c := *e
	c.Status = status
	return &c
}

// WithDetail is e with a detail for the client.
func (e *Error) WithDetail(detail any) *Error {
	c := *e
	c.Detail = detail
	return &c
}

// Outage is an ErrUnavailable for an upstream that could not be asked: 504 if it
// did not answer in time, else 502. The message is for the client, the cause is
// not.
func Outage(timeout bool, message string, cause error) *Error {
	status := http.StatusBadGateway
	if timeout {
		status = http.StatusGatewayTimeout
	}
	return &Error{Code: CodeUnavailable, Message: message, Status: status, err: cause}
}

// Unknown reports whether err says that something does not exist. What is damaged does, also
// where a client is told that it is unknown, so that it is pushed again.
func Unknown(err error) bool {
	if errors.Is(err, ErrDamaged) {
		return false
	}
	return errors.Is(err, ErrManifestUnknown) || errors.Is(err, ErrBlobUnknown) || errors.Is(err, ErrNameUnknown)
}
