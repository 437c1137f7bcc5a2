package main

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/policy"
	"github.com/weir-registry/weir/authz/webhook"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// webhooks are those of a configuration, by name.
type webhooks struct {
	byName  map[string]authz.Authorizer
	clients []*egress.Client
}

// newWebhooks makes the webhooks of a configuration. It asks none. asked is told of
// every request; nil: nobody is.
func newWebhooks(list []config.Webhook, network egress.Network, log *slog.Logger, asked func(name string, r webhook.Result, took time.Duration)) (*webhooks, error) {
	all := &webhooks{byName: map[string]authz.Authorizer{}}
	for _, c := range list {
		files, err := egress.OpenFiles(c.CA, c.Certificate, c.Key, func(err error) {
			log.Warn("changed files not taken up", "key", "authz.webhooks", "webhook", c.Name, "error", err)
		})
		if err != nil {
			return nil, fmt.Errorf("webhook %s: %w", c.Name, err)
		}
		// A webhook's own timeout bounds the whole: none of the steps has more.
		limit := c.Timeout.Std()
		client := egress.New(egress.Options{
			URL:       &c.URL.URL.URL,
			Trust:     files.Trust,
			Timeouts:  egress.Timeouts{Connect: limit, Header: limit, Stall: limit},
			UserAgent: "weir/" + version,
			Network:   network,
		})
		o := webhook.Options{
			Name:          c.Name,
			URL:           &c.URL.URL.URL,
			Timeout:       limit,
			TTL:           c.CacheTTL.Std(),
			Authorization: authorization(c),
			Transport:     client,
		}
		if asked != nil {
			o.Asked = func(r webhook.Result, took time.Duration) { asked(c.Name, r, took) }
		}
		hook, err := webhook.New(o)
		if err != nil {
			return nil, err
		}
		all.byName[c.Name] = hook
		all.clients = append(all.clients, client)
	}
	return all, nil
}

// close lets go of connections that are not in use.
func (w *webhooks) close() {
	for _, c := range w.clients {
		c.Close()
	}
}

// authorization is the header that a webhook is asked with. Secrets in files are read
// each time.
func authorization(c config.Webhook) func() (string, error) {
	return func() (string, error) {
		if c.Username != "" {
			password, err := c.Password.Value()
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+password)), err
		}
		if c.BearerToken.IsZero() {
			return "", nil
		}
		token, err := c.BearerToken.Value()
		return "Bearer " + token, err
	}
}

// newPolicy makes what decides who may do what. private says that nobody but this
// machine can connect, and that nothing tells people apart. Without webhooks (nil)
// none is asked. decided is told of every decision; nil: nobody is.
func newPolicy(c *config.Config, private bool, hooks *webhooks, log *slog.Logger, decided func(policy.Decision)) (*policy.Policy, error) {
	o := policy.Options{
		Global:       c.Authz.Policy.Rules(),
		Repositories: c.Scopes(),
		Private:      private,
		Log:          log,
		Decided:      decided,
	}
	if c.Mirror.Default != "" {
		o.Reserved = "library"
	}
	if hooks != nil {
		o.Webhooks, o.Webhook = hooks.byName, c.Authz.Webhook
	} else {
		for i := range o.Repositories {
			o.Repositories[i].Webhook = ""
		}
	}
	return policy.New(o)
}
