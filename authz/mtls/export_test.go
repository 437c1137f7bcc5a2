package mtls

import "time"

// At makes it that time for the certificates of requests.
func (s *Server) At(now time.Time) { s.now = func() time.Time { return now } }
