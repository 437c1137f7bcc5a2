package serve

import (
	"net/http"
)

// FillExtension is the name below /v2/_ext/ of what replicas ask each other for: bytes of
// a blob that is being fetched ([Options].Fill).
const FillExtension = "fill"

// sendFill answers with what Options.Fill opens. Whoever may not have it is told what is
// told of an address that does not exist, and so is one for whom there is nothing.
func (s *server) sendFill(w http.ResponseWriter, r *http.Request, c Call) error {
	rng, ranged := askedRange(r.Header, "")
	if s.fill == nil || r.Method != http.MethodGet || rng.Len < 0 {
		return noSuchResource()
	}
	blob, err := s.fill(r, rng)
	if err != nil {
		return noSuchResource()
	}
	if blob.Length < 0 && blob.Offset > 0 { // nobody knows its end, which Content-Range needs
		_ = blob.Body.Close()
		return noSuchResource()
	}
	c.Digest = blob.Digest
	return s.sendBlob(w, r, c, blob, ranged)
}
