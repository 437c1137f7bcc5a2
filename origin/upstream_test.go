package origin

import (
	"errors"
	"io"
	"testing"
)

func TestUpstreamErrorIsOfOneKind(t *testing.T) {
	for status, want := range map[int]string{
		404: "not there", 410: "not there",
		401: "denied", 403: "denied",
		429: "limited",
		0:   "outage", 200: "outage", 206: "outage", 400: "outage", 408: "outage", 500: "outage", 502: "outage", 503: "outage",
	} {
		e := &UpstreamError{Status: status}
		var got []string
		for kind, is := range map[string]bool{
			"not there": e.NotThere(), "denied": e.Denied(), "limited": e.Limited(), "outage": e.Outage(),
		} {
			if is {
				got = append(got, kind)
			}
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("status %d is %q, want %q", status, got, want)
		}
	}
}

func TestUpstreamErrorUnwraps(t *testing.T) {
	err := error(&UpstreamError{Endpoint: "h:5000", Status: 200, Err: Outage(true, "upstream h:5000 stalled", io.ErrUnexpectedEOF)})
	for _, want := range []error{ErrUnavailable, io.ErrUnexpectedEOF} {
		if !errors.Is(err, want) {
			t.Errorf("%v is not %v", err, want)
		}
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.HTTPStatus() != 504 {
		t.Errorf("the client is told %v", e)
	}
	const text = "upstream h:5000: status 200: UNAVAILABLE: upstream h:5000 stalled: unexpected EOF"
	if err.Error() != text {
		t.Errorf("got %q, want %q", err, text)
	}
}
