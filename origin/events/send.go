package events

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	// SendTimeout is how long a receiver may take to answer, in all.
	SendTimeout = 10 * time.Second
	// largestAnswer is how much of an answer is read, so that its connection can be used
	// again; what it says does not matter.
	largestAnswer = 64 << 10
)

// errSlow says that there was no answer in time.
var errSlow = fmt.Errorf("no answer within %s", SendTimeout)

// send tells a receiver of an event. Errors: whatever is not a 2xx in time.
func (r *Receiver) send(ctx context.Context, source string, e Event) error {
	ctx, cancel := context.WithTimeoutCause(ctx, SendTimeout, errSlow)
	defer cancel()
	body, err := e.encode(source)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL.String(), bytes.NewReader(body))
	if err != nil {
		return errors.New("the address is none")
	}
	req.Header.Set("Content-Type", "application/cloudevents+json")
	var secret string
	if r.Secret != nil {
		if secret, err = r.Secret(); err != nil {
			return err
		}
	}
	if secret != "" {
		timestamp := strconv.FormatInt(time.Now().Unix(), 10)
		req.Header.Set("Weir-Timestamp", timestamp)
		req.Header.Set("Weir-Signature", "sha256="+sign(secret, timestamp, body))
	}
	res, err := r.Transport.RoundTrip(req)
	if err != nil {
		if context.Cause(ctx) == errSlow {
			return errSlow
		}
		return err
	}
	defer res.Body.Close()
	// An answer that never ends has said all that matters by its status.
	_, _ = io.CopyN(io.Discard, res.Body, largestAnswer)
	if res.StatusCode/100 != 2 {
		return answered(res.StatusCode)
	}
	return nil
}

// answered is a status that is not 2xx.
type answered int

// Error implements error.
func (a answered) Error() string { return fmt.Sprintf("answered %d", int(a)) }

// reason says why an event was not taken to whoever may know of the event: addresses,
// names of hosts and of files are for the log.
func reason(err error) string {
	if status, ok := errors.AsType[answered](err); ok {
		return status.Error()
	}
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errSlow):
		return errSlow.Error()
	}
	return "it could not be sent: the log says why"
}

// sign gives the HMAC-SHA256 of what is sent, and of when, in hex: whoever keeps one
// cannot send it again much later.
func sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	io.WriteString(mac, timestamp)
	io.WriteString(mac, ".")
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
