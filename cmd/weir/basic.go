package main

import (
	"log/slog"
	"net/http"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/basic"
	"github.com/weir-registry/weir/cmd/weir/config"
)

// newBasic is what knows people by name and password; nil where nobody has one. client
// says where a request comes from.
func newBasic(c config.Basic, client func(*http.Request) authz.Client, log *slog.Logger) (*basic.Basic, error) {
	if c.IsZero() {
		return nil, nil
	}
	return basic.New(basic.Options{Users: c.People, Htpasswd: c.Htpasswd, Client: client, Log: log})
}
