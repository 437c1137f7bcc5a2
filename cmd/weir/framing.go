package main

import (
	"net/http"

	"github.com/weir-registry/weir/authz"
)

// framed closes an HTTP/1.1 connection after a request whose body came in chunks, where
// more than one client's requests may come over it, or no client sends a body so. If it
// had a Content-Length beside it, which net/http takes away without a word, a proxy may
// have gone by that one, and taken for the next request what weir took for this one's
// body, or the other way round (RFC 9112, section 6.1). Uploads of clients that connect
// themselves keep their connection.
func framed(next http.Handler, p *authz.Peers) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
			upload := r.Method == http.MethodPatch || r.Method == http.MethodPut
			if !upload || p.Proxied(r) {
				w.Header().Set("Connection", "close")
			}
		}
		next.ServeHTTP(w, r)
	})
}
