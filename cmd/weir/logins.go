package main

import (
	"net/http"
	"net/url"
	"os"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/remote/acr"
	"github.com/weir-registry/weir/origin/remote/docker"
	"github.com/weir-registry/weir/origin/remote/ecr"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/gcr"
	"github.com/weir-registry/weir/origin/remote/login"
)

// newLogin is what an endpoint is asked with, nil = nothing. Nobody is asked for it
// yet. like has what the endpoint's own
// client is made of.
func newLogin(e config.Endpoint, like egress.Options) login.Provider {
	switch e.Credentials {
	case config.CredentialsDocker:
		return docker.New(e.URL.Host)
	case config.CredentialsECR:
		return ecr.New(e.URL.Host, nil)
	case config.CredentialsGCR:
		return gcr.New(nil)
	case config.CredentialsACR:
		return acr.New(acr.Options{
			Registry: &e.URL.URL,
			Client:   egress.New(like),
			Entra: func(u *url.URL, proxied bool) *egress.Client {
				// What the endpoint is shown and believed for is not for others.
				o := egress.Options{URL: u, Timeouts: like.Timeouts, UserAgent: like.UserAgent, Network: like.Network}
				if !proxied {
					o.Network.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
				}
				return egress.New(o)
			},
			Env: os.LookupEnv,
		})
	}
	if e.Username == "" {
		return nil
	}
	return login.Static(e.Username, e.Password.Value)
}
