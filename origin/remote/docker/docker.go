// Package docker has the logins that Docker knows: what "docker login" wrote into
// config.json, and the credential helpers that it names. Where that file is not
// there, podman's is read: REGISTRY_AUTH_FILE, or containers/auth.json.
//
// A helper is asked, and the file read, when a login is needed for the first time,
// and again when the file changes or the registry refuses the login.
package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
)

// token is the user name of helpers whose secret is a refresh token.
const token = "<token>"

// New is Docker's login for the registry at a host, with its port if it has one.
// That Docker knows none is no error: the registry is asked anonymously.
func New(host string) *Keychain {
	// Docker Hub has one name there, whatever it is reached by.
	if host == "registry-1.docker.io" || host == "docker.io" {
		host = name.DefaultRegistry
	}
	k := &Keychain{host: host}
	k.cache = login.NewCache(k.fetch)
	return k
}

// Keychain is a login.Provider.
type Keychain struct {
	host  string
	cache *login.Cache

	mu      sync.Mutex
	held    login.Login
	seen    string  // what the files looked like when held was had
	running *lookup // nil if there is none
}

// Login implements login.Provider.
func (k *Keychain) Login(ctx context.Context) (login.Login, error) {
	now := look()
	k.mu.Lock()
	held, stale := k.held, k.seen != now
	k.mu.Unlock()
	if stale {
		k.cache.Drop(held)
	}
	return k.cache.Login(ctx)
}

// Drop implements login.Provider.
func (k *Keychain) Drop(l login.Login) { k.cache.Drop(l) }

// lookup is a lookup that is under way.
type lookup struct {
	done  chan struct{} // closed when it is over
	login login.Login
	err   error
}

// fetch looks a login up. The lookup itself knows no end: a helper may wait for
// somebody to type. Who comes then waits for the same one: each is a process, and the
// keychain of go-containerregistry lets one look at a time.
func (k *Keychain) fetch(ctx context.Context) (login.Login, time.Time, error) {
	l := k.begin()
	select {
	case <-l.done:
		return l.login, time.Time{}, l.err
	case <-ctx.Done():
		return login.Login{}, time.Time{}, ctx.Err()
	}
}

// begin gives the lookup that is under way, or begins one.
func (k *Keychain) begin() *lookup {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running != nil {
		return k.running
	}
	l, seen := &lookup{done: make(chan struct{})}, look()
	k.running = l
	go func() {
		// Of no caller: it goes on for those who come later.
		l.login, l.err = k.lookUp(context.Background())
		k.mu.Lock()
		defer k.mu.Unlock()
		k.running = nil
		if l.err == nil {
			k.held, k.seen = l.login, seen
		}
		close(l.done)
	}()
	return l
}

func (k *Keychain) lookUp(ctx context.Context) (login.Login, error) {
	at, err := name.NewRegistry(k.host)
	if err != nil {
		return login.Login{}, err
	}
	found, err := authn.DefaultKeychain.ResolveContext(ctx, at)
	if err != nil {
		return login.Login{}, unquoted(err)
	}
	c, err := authn.Authorization(ctx, found)
	if err != nil {
		return login.Login{}, unquoted(err)
	}
	switch {
	case c.IdentityToken != "":
		return login.Login{Username: strings.TrimSuffix(c.Username, token), Identity: egress.Conceal(c.IdentityToken)}, nil
	case c.RegistryToken != "":
		return login.Login{}, errors.New("Docker's configuration has a registrytoken for " + k.host + ": weir takes passwords and identity tokens")
	case c.Username == "" && c.Password == "":
		return login.Login{}, nil
	}
	return login.Login{Username: c.Username, Password: egress.Conceal(c.Password)}, nil
}

// unquoted is a helper's error without what the helper wrote: it may be a secret.
func unquoted(err error) error {
	said, _, _ := strings.Cut(err.Error(), ", out: ")
	return errors.New("Docker's credentials: " + said)
}

// look says what the files look like that logins come from.
func look() string {
	home, _ := os.UserHomeDir() // without one there is nothing in it
	settings := cmp.Or(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config"))
	var seen strings.Builder
	for _, file := range []string{
		filepath.Join(home, ".docker", "config.json"),
		filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"),
		os.Getenv("REGISTRY_AUTH_FILE"),
		filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "containers", "auth.json"),
		filepath.Join(settings, "containers", "auth.json"),
	} {
		if info, err := os.Stat(file); err == nil {
			fmt.Fprintln(&seen, file, info.Size(), info.ModTime().UnixNano())
		}
	}
	return seen.String()
}
