package login

import (
	"context"

	"github.com/weir-registry/weir/origin/remote/egress"
)

// Login is what a registry and its token server are shown. It is comparable: two
// that were had at different times are different. The zero Login is nobody's.
type Login struct {
	Username string
	Password egress.Secret
	// Identity is a refresh token, which only a token server takes (distribution's
	// OAuth2 specification); Password is none then.
	Identity egress.Secret
}

// Provider gives the login for an endpoint.
type Provider interface {
	// Login gives it. Errors: ctx's; that there is none to be had, which says nothing
	// about what the registry would have answered.
	Login(ctx context.Context) (Login, error)
	// Drop says that the registry refused a login, so that it may be had anew.
	Drop(Login)
}

// Static is a user name and a password that is asked for whenever it is sent, since
// a file may hold it that changes.
func Static(username string, password func() (string, error)) Provider {
	return static{username, password}
}

type static struct {
	username string
	password func() (string, error)
}

func (s static) Login(context.Context) (Login, error) {
	password, err := s.password()
	if err != nil {
		return Login{}, err
	}
	return Login{Username: s.username, Password: egress.Conceal(password)}, nil
}

func (static) Drop(Login) {}
