package remotetest

import (
	"fmt"
	"net/http"
	"strings"
)

// CDN lets blobs be redirected to another port, as from now, with a signature in
// the address.
func (u *Upstream) CDN() {
	at := u.serve("cdn", http.HandlerFunc(u.deliver))
	u.mu.Lock()
	defer u.mu.Unlock()
	u.cdn, u.signature = at, "s3cr3t"
}

// ExpireSignatures makes all addresses at the CDN that were given out so far
// worthless: 403. Those given out from now on have another signature.
func (u *Upstream) ExpireSignatures() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.signatures++
	u.signature = fmt.Sprintf("s3cr3t%d", u.signatures+1)
}

// cdnAddress is where a blob is redirected, "" = nowhere. The caller holds u.mu.
func (u *Upstream) cdnAddress(name, ref string) string {
	if u.cdn == nil {
		return ""
	}
	return u.cdn.JoinPath(name, ref).String() + "?signature=" + u.signature
}

// deliver answers the CDN's port.
func (u *Upstream) deliver(w http.ResponseWriter, r *http.Request) {
	i := strings.LastIndex(r.URL.Path, "/")
	name, ref := strings.Trim(r.URL.Path[:i], "/"), r.URL.Path[i+1:]
	u.mu.Lock()
	repo, ok := u.repos[name]
	answer := unknown("NoSuchKey")
	switch {
	case r.URL.Query().Get("signature") != u.signature:
		answer = func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusForbidden, "AccessDenied") }
	case ok:
		answer = repo.blob(ref, "")
	}
	u.mu.Unlock()
	answer(w, r)
}
