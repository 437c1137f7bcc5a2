package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/policy"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/serve"
)

// farewell is how long the receiver of spans may take for the last of them.
const farewell = 5 * time.Second

// openTracing exports spans as c says; nil: it says nothing of that. Nobody is asked.
func (a *app) openTracing(c config.Tracing, log *slog.Logger) (*observe.Tracing, error) {
	if c.Endpoint.IsZero() {
		return nil, nil
	}
	// What waits to be exported is not lost to another configuration.
	t, release, err := a.traces.take(c, func() (*observe.Tracing, func(), error) {
		t, err := observe.NewTracing(observe.TracingOptions{
			Endpoint: &c.Endpoint.URL, Sampling: float64(c.Sampling), Version: version, Log: log,
		})
		return t, func() {
			ctx, cancel := context.WithTimeout(context.Background(), farewell)
			defer cancel()
			_ = t.Shutdown(ctx) // what it could not export it has said
		}, err
	})
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	a.closers = append(a.closers, func() error { release(); return nil })
	return t, nil
}

// network is the machine's, with each request a span of that name where it is traced.
func network(span string) egress.Network {
	return egress.Network{Around: observe.Transport(span)}
}

// parser reads requests, each time a span; nil: serve's own does, and there are none.
func parser(t *observe.Tracing) func(context.Context, string, *url.URL) (serve.Call, error) {
	if t == nil {
		return nil
	}
	return func(ctx context.Context, method string, u *url.URL) (serve.Call, error) {
		_, span := observe.Span(ctx, "parse")
		defer span.End()
		c, err := serve.Parse(method, u)
		if err != nil {
			span.SetAttributes(attribute.String("error.type", "refused"))
		}
		return c, err
	}
}

// tracedAuthenticator finds who asks, each time a span that says by which method they were
// known, and not who they are.
type tracedAuthenticator struct{ next authz.Authenticator }

// Authenticate implements authz.Authenticator.
func (a tracedAuthenticator) Authenticate(r *http.Request) (authz.Identity, error) {
	ctx, span := observe.Span(r.Context(), "identity")
	defer span.End()
	if !span.IsRecording() {
		return a.next.Authenticate(r)
	}
	who, err := a.next.Authenticate(r.WithContext(ctx))
	span.SetAttributes(attribute.String("weir.method", string(who.Method)))
	switch {
	case errors.Is(err, authz.ErrUnavailable):
		span.SetAttributes(attribute.String("error.type", "unavailable"))
		span.SetStatus(codes.Error, "")
	case err != nil:
		span.SetAttributes(attribute.String("error.type", "rejected"))
	}
	return who, err
}

// tracedPolicy decides, each time a span that says what about, and what came of it.
type tracedPolicy struct{ *policy.Policy }

// Authorize implements authz.Authorizer.
func (p tracedPolicy) Authorize(ctx context.Context, who authz.Identity, what authz.Access) error {
	ctx, span := observe.Span(ctx, "policy")
	defer span.End()
	err := p.Policy.Authorize(ctx, who, what)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("weir.action", string(what.Action)), attribute.String("weir.operation", what.Operation),
			attribute.String("weir.repository", what.Repository), attribute.Bool("weir.allowed", err == nil))
		if d, is := errors.AsType[*authz.Denial](err); is {
			span.SetAttributes(attribute.String("weir.rule", d.By))
		}
	}
	return err
}
