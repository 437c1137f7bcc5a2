package basic

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/weir-registry/weir/authz"
)

// idPrefix begins the ID of whoever is known by a password.
const idPrefix = "basic:"

// Options are the circumstances of a Basic.
type Options struct {
	// Users gives those of the configuration, and is asked again once a second at most;
	// nil: there are none. Htpasswd is the name of a file of others, "": there is none.
	// A user who is in both is an error.
	Users    func() ([]User, error)
	Htpasswd string
	// Client says where a request comes from; nil: from the peer.
	Client func(r *http.Request) authz.Client
	// Log is told that the file changed, or could not be read, and now and then that more
	// passwords come than can be checked; nil: nobody is.
	Log *slog.Logger
}

// Basic knows people by name and password (RFC 7617). It is safe for concurrent use.
type Basic struct {
	users    *users
	gate     *gate
	failures *failures
	client   func(r *http.Request) authz.Client
	key      [sha256.Size]byte
	log      *slog.Logger

	mu     sync.Mutex
	told   time.Time // when the log was told last of a flood
	untold int       // how many passwords were refused since
	// compute is Hash.matches, unless a test counts.
	compute func(h Hash, password string) bool
}

var _ authz.Authenticator = (*Basic)(nil)

// New makes a Basic. Errors: those of the file, with its name; a user who is there twice.
func New(o Options) (*Basic, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	changed := func(err error) {
		if err != nil {
			log.Error("users not taken: the last good ones go on", "error", err)
			return
		}
		log.Info("users read again")
	}
	if o.Users == nil {
		o.Users = func() ([]User, error) { return nil, nil }
	}
	u, err := openUsers(o.Users, o.Htpasswd, changed)
	if err != nil {
		return nil, err
	}
	b := &Basic{users: u, failures: newFailures(), client: o.Client, compute: Hash.matches, log: log}
	b.gate = newGate(runtime.GOMAXPROCS(0), b.failures)
	if b.client == nil {
		b.client = peer
	}
	_, _ = rand.Read(b.key[:]) // it never fails
	return b, nil
}

// Authenticate implements authz.Authenticator: it reads the Authorization header, if
// there is one and its scheme is Basic.
func (b *Basic) Authenticate(r *http.Request) (authz.Identity, error) {
	name, password, ok := r.BasicAuth()
	if !ok || len(r.Header.Values("Authorization")) != 1 {
		return authz.Identity{}, authz.ErrNone
	}
	users := b.users.current()
	// How long a password is says nothing of whose it is: no work hides that.
	if len(users.users) == 0 || len(password) > MaxPassword || CheckName(name) != nil {
		return authz.Identity{}, authz.ErrNone
	}
	is, err := b.check(r.Context(), users, password, from{pair{name, network(b.client(r).IP)}, r.RemoteAddr})
	switch {
	case err != nil:
		return authz.Identity{}, err
	case !is:
		return authz.Identity{}, authz.ErrNone
	}
	return authz.Identity{ID: idPrefix + name, Username: name, Method: authz.MethodBasic}, nil
}

// check reports whether the password is that of who asks.
func (b *Basic) check(ctx context.Context, users *set, password string, who from) (bool, error) {
	f := b.fingerprint(who.user, password)
	seen := users.verdict(f, time.Now())
	if seen == right || seen == wrong {
		return seen == right, nil
	}
	leave, err := b.gate.enter(ctx, who, seen == wasRight)
	if err != nil {
		b.failures.refused(who)
		b.refused()
		return false, err
	}
	defer leave()
	// Somebody may have asked the same while this one waited.
	if seen := users.verdict(f, time.Now()); seen == right || seen == wrong {
		return seen == right, nil
	}
	hash, known := users.hash(who.user)
	is := b.compute(hash, password) && known
	users.learn(f, is, time.Now())
	if is {
		b.failures.right(who)
	} else {
		b.failures.wrong(who)
	}
	return is, nil
}

// tellEvery is how often, at most, the log is told of a flood.
const tellEvery = 10 * time.Second

// refused takes down that a password could not be checked.
func (b *Basic) refused() {
	b.mu.Lock()
	b.untold++
	n, tell := b.untold, time.Since(b.told) >= tellEvery
	if tell {
		b.told, b.untold = time.Now(), 0
	}
	b.mu.Unlock()
	if tell {
		b.log.Warn("more passwords come than can be checked", "refused", n)
	}
}

// fingerprint stands for a name and a password where they are remembered.
func (b *Basic) fingerprint(name, password string) (f fingerprint) {
	h := hmac.New(sha256.New, b.key[:])
	var length [8]byte // else "ab", "c" is "a", "bc"
	binary.BigEndian.PutUint64(length[:], uint64(len(name)))
	h.Write(length[:])
	h.Write([]byte(name))
	h.Write([]byte(password))
	h.Sum(f[:0])
	return f
}

// Stamp names the password that a user has now, so that what is issued to them can be
// bound to it. id is an Identity's; ok is false if it is of no user that is known here.
func (b *Basic) Stamp(id string) (stamp string, ok bool) {
	name, is := strings.CutPrefix(id, idPrefix)
	if !is {
		return "", false
	}
	return b.users.current().stamp(name)
}

// peer is who is at the other end of the connection.
func peer(r *http.Request) authz.Client {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return authz.Client{}
	}
	return authz.Client{IP: a.Addr()}
}
