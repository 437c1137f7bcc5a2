package main

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/weir-registry/weir/authz/mtls"
	"github.com/weir-registry/weir/cmd/weir/config"
)

const (
	// maxStreams is how many requests a client may have running on one HTTP/2 connection.
	maxStreams = 250
	// maxHeader bounds the header of a request. The longest that weir reads are tokens,
	// 16 KiB; a connection may have maxStreams of them at once.
	maxHeader = 64 << 10
	// maxFrame bounds what is kept of a frame that is on its way.
	maxFrame = 64 << 10
)

// openTLS opens the public side's TLS; nil: it is plain text. What has been opened for the
// same files goes on, and with it the sessions that clients have.
func (a *app) openTLS(c config.Server, log *slog.Logger) (*mtls.Server, error) {
	if c.TLS.IsZero() {
		return nil, nil
	}
	o := mtls.Options{
		Certificate: c.TLS.Certificate,
		Key:         c.TLS.Key,
		ClientCA:    c.TLS.ClientCA,
		Required:    c.TLS.ClientAuth == config.ClientAuthRequired,
		HTTP2:       c.HTTP2,
	}
	s, release, err := a.kept.secured.take(o, func() (*mtls.Server, func(), error) {
		o := o // whom it tells of failures is not what it is known by
		o.Failed = func(err error) {
			log.Error("changed certificates not taken up: the last good ones go on", "error", err)
		}
		s, err := mtls.Open(o)
		return s, func() {}, err
	})
	if err != nil {
		return nil, err
	}
	a.closers = append(a.closers, func() error { release(); return nil })
	s.Look(time.Now())
	return s, nil
}

// encrypt has a server take TLS alone, if there is any.
func encrypt(s *http.Server, t *mtls.Server, c config.Server) {
	if t == nil {
		return
	}
	s.TLSConfig = t.Config()
	s.Protocols = &http.Protocols{}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(c.HTTP2)
	s.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams: maxStreams,
		MaxReadFrameSize:     maxFrame,
		// A client that reads nothing at all holds up whoever writes to its connection,
		// beyond the deadlines of its requests.
		WriteByteTimeout: c.Timeouts.Stall.Std(),
	}
}
