package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/mirror/fill"
	"github.com/weir-registry/weir/mirror/foreign"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/events"
	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/ui/view"
)

// outboxTTL is for how long nobody else tells what waits once a replica is gone.
const outboxTTL = 10 * time.Second

// openOutbox makes what tells others what happens.
func (k *kept) openOutbox(log *slog.Logger) {
	o := events.Options{Records: k.records, Meter: k.metrics, Logger: log}
	if k.replicas != nil {
		o.Others = k.replicas.redis
		o.Lead = k.replicas.leadEvents
	}
	k.outbox = events.New(o)
	k.drains = append(k.drains, k.outbox.Close)
}

// newReceivers makes those who are told what happens. It tells nobody yet.
func (a *app) newReceivers(list []config.Receiver, log *slog.Logger) ([]events.Receiver, error) {
	var receivers []events.Receiver
	for _, r := range list {
		files, err := egress.OpenFiles(r.CA, r.Certificate, r.Key, func(err error) {
			log.Warn("changed files not taken up", "key", "events", "receiver", r.Name, "error", err)
		})
		if err != nil {
			return nil, fmt.Errorf("events: %s: %w", r.Name, err)
		}
		client := egress.New(egress.Options{
			URL:       &r.URL.URL,
			Trust:     files.Trust,
			Timeouts:  egress.Timeouts{Connect: events.SendTimeout, Header: events.SendTimeout, Stall: events.SendTimeout},
			UserAgent: "weir/" + version,
		})
		a.closers = append(a.closers, func() error { client.Close(); return nil })
		to := events.Receiver{Name: r.Name, URL: &r.URL.URL, Secret: r.Secret.Value, Repositories: r.Wants, Transport: client}
		for _, k := range r.Events {
			to.Kinds = append(to.Kinds, events.Kind(k))
		}
		receivers = append(receivers, to)
	}
	return receivers, nil
}

// eventSource is what events say that they come from.
func eventSource(c *config.Config) string {
	if c.Server.ExternalURL.IsZero() {
		return "weir"
	}
	return strings.TrimSuffix(c.Server.ExternalURL.String(), "/")
}

// repoOf gives the repository that a blob is fetched for.
func repoOf(key fill.Key) (origin.Repo, error) { return key.Repo.Under(config.PathOf(key.Upstream)) }

// filled tells of a blob that was fetched and is kept.
func (k *kept) filled(key fill.Key, size int64) {
	repo, err := repoOf(key)
	if err != nil {
		return // too long for a name, which nobody could have asked for
	}
	k.outbox.Filled(repo, v1.Descriptor{MediaType: "application/octet-stream", Digest: key.Digest, Size: size})
}

// leadEvents asks for the right to tell a receiver what waits.
func (r *replicas) leadEvents(ctx context.Context, receiver string) (release func(), lost <-chan struct{}, err error) {
	lock, err := r.redis.TryLock(ctx, "events/"+receiver, "", outboxTTL)
	if err != nil {
		return nil, nil, err
	}
	return lock.Unlock, lock.Lost(), nil
}

// recorded is another registry, of which is written down what is pushed to it and
// deleted from it.
type recorded struct {
	*foreign.Registry
	events events.Recorded
}

// Push implements origin.Writer.
func (r recorded) Push(ctx context.Context, repo origin.Repo, m origin.Manifest, o origin.PushOptions) (origin.Descriptor, error) {
	return r.events.Push(ctx, r.Registry, repo, m, o)
}

// DeleteManifest implements origin.Deleter.
func (r recorded) DeleteManifest(ctx context.Context, repo origin.Repo, ref origin.Ref) error {
	return r.events.Delete(ctx, r.Registry, repo, ref)
}

// shownEvents are the events that are shown: see view.Events.
type shownEvents struct{ outbox *events.Outbox }

// Events implements view.Events.
func (s shownEvents) Events(ctx context.Context, dead bool) ([]view.Event, error) {
	kept, err := s.outbox.Kept(ctx, dead)
	if err != nil {
		return nil, err
	}
	var shown []view.Event
	for _, k := range kept {
		e := view.Event{
			ID: k.ID, Receiver: k.Receiver, Type: k.Type, Repository: k.Repository, Tag: k.Tag, Digest: k.Digest,
			Time: k.Time, State: view.Pending, Attempts: k.Attempts, Error: k.Reason,
		}
		if k.Dead {
			e.State = view.Dead
		}
		shown = append(shown, e)
	}
	return shown, nil
}
