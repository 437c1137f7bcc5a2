package authz

import (
	"errors"
	"net/http"
)

// ErrNotLocal says that a change was asked for by someone who is not on this machine,
// or may not be.
var ErrNotLocal = errors.New("authz: changes are taken from this machine only")

// Writes decides on requests that change something, while nobody is known by name:
// they are taken from this machine alone, and only while nobody else can connect, nor
// have a proxy connect.
type Writes struct {
	open  bool
	peers *Peers
}

// NewWrites makes a Writes. open says that neither an external URL nor trusted proxies
// are configured, and that every listener is private; peers says who is local.
func NewWrites(peers *Peers, open bool) *Writes { return &Writes{open, peers} }

// Open reports whether anyone on this machine may write.
func (a *Writes) Open() bool { return a.open }

// Check says whether r may go on. Requests that change nothing always may.
// Errors: ErrNotLocal.
func (a *Writes) Check(r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	if !a.open || !a.peers.Client(r).Local {
		return ErrNotLocal
	}
	return nil
}
