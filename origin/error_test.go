package origin_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/weir-registry/weir/origin"
)

func TestErrorStatus(t *testing.T) {
	for e, want := range map[*origin.Error]int{
		origin.ErrBlobUnknown:         http.StatusNotFound,
		origin.ErrUploadInvalid:       http.StatusBadRequest,
		origin.ErrUploadUnknown:       http.StatusNotFound,
		origin.ErrDigestInvalid:       http.StatusBadRequest,
		origin.ErrManifestBlobUnknown: http.StatusNotFound,
		origin.ErrManifestInvalid:     http.StatusBadRequest,
		origin.ErrManifestUnknown:     http.StatusNotFound,
		origin.ErrNameInvalid:         http.StatusBadRequest,
		origin.ErrNameUnknown:         http.StatusNotFound,
		origin.ErrSizeInvalid:         http.StatusBadRequest,
		origin.ErrTagInvalid:          http.StatusBadRequest,
		origin.ErrUnauthorized:        http.StatusUnauthorized,
		origin.ErrDenied:              http.StatusForbidden,
		origin.ErrUnsupported:         http.StatusMethodNotAllowed,
		origin.ErrUnavailable:         http.StatusServiceUnavailable,
		{Code: origin.CodeUnknown}:    http.StatusInternalServerError,
		{Code: "NEVER_HEARD_OF"}:      http.StatusInternalServerError,
	} {
		if got := e.HTTPStatus(); got != want {
			t.Errorf("%s: %d, want %d", e.Code, got, want)
		}
		if got := e.WithStatus(http.StatusTeapot); got.HTTPStatus() != http.StatusTeapot || e.HTTPStatus() != want {
			t.Errorf("%s with a status: %d, and without %d", e.Code, got.HTTPStatus(), e.HTTPStatus())
		}
	}
}

// Errors are told apart by their codes, however they were made, and making one
// leaves what it was made of alone.
func TestErrorIs(t *testing.T) {
	base := *origin.ErrDenied
	cause := io.ErrUnexpectedEOF
	for name, err := range map[string]error{
		"itself":      origin.ErrDenied,
		"formatted":   origin.Errorf(origin.ErrDenied, "no %s", "way"),
		"with cause":  origin.Wrap(origin.ErrDenied, cause),
		"with detail": origin.ErrDenied.WithDetail("x"),
		"with status": origin.ErrDenied.WithStatus(418),
		"wrapped":     fmt.Errorf("push: %w", origin.Wrap(origin.ErrDenied, cause)),
		"joined":      errors.Join(io.EOF, origin.ErrDenied),
	} {
		if !errors.Is(err, origin.ErrDenied) || errors.Is(err, origin.ErrUnauthorized) {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok := errors.AsType[*origin.Error](err); !ok {
			t.Errorf("%s is no Error", name)
		}
	}
	if *origin.ErrDenied != base {
		t.Error("ErrDenied changed")
	}
	if err := origin.Wrap(origin.ErrDenied, cause); !errors.Is(err, cause) || !strings.Contains(err.Error(), cause.Error()) || strings.Contains(err.Message, cause.Error()) {
		t.Errorf("the cause is for logs, and not for the client: %v, %s", err, err.Message)
	}
	if errors.Is(io.EOF, origin.ErrDenied) || origin.ErrDenied.Is(io.EOF) {
		t.Error("another error is no Error")
	}
}

func TestOutage(t *testing.T) {
	for timeout, want := range map[bool]int{true: http.StatusGatewayTimeout, false: http.StatusBadGateway} {
		err := origin.Outage(timeout, "upstream is away", io.EOF)
		if err.HTTPStatus() != want || !errors.Is(err, origin.ErrUnavailable) || !errors.Is(err, io.EOF) || err.Message != "upstream is away" {
			t.Errorf("%v: %d", err, err.HTTPStatus())
		}
	}
}

func TestUnknown(t *testing.T) {
	for _, err := range []error{origin.ErrManifestUnknown, origin.ErrBlobUnknown, fmt.Errorf("x: %w", origin.ErrNameUnknown)} {
		if !origin.Unknown(err) {
			t.Errorf("%v says that something does not exist", err)
		}
	}
	for _, err := range []error{nil, io.EOF, origin.ErrUnavailable, origin.ErrUnauthorized, origin.ErrUploadUnknown, origin.ErrManifestBlobUnknown} {
		if origin.Unknown(err) {
			t.Errorf("%v does not say that something does not exist", err)
		}
	}
}
