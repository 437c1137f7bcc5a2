package guard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

// TestDenialsAreAudited: who was denied what, and by which rule, is written down: at info
// where that was the last word, at debug where a client is asked who it is.
func TestDenialsAreAudited(t *testing.T) {
	for _, c := range []struct {
		name      string
		who       authz.Identity
		challenge []string
		level     string
	}{
		{"somebody", authz.Identity{Method: authz.MethodBasic, ID: "basic:ann"}, []string{"Basic"}, "INFO"},
		{"nobody, who can say nothing", authz.Identity{Method: authz.MethodNone}, nil, "INFO"},
		{"nobody yet", authz.Identity{Method: authz.MethodNone}, []string{"Basic"}, "DEBUG"},
	} {
		var lines bytes.Buffer
		g := guard.New(origin.None{}, denies{}, guard.Options{
			Challenge: func(context.Context, authz.Scope, bool) []string { return c.challenge },
			Log:       slog.New(slog.NewJSONHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		repo, err := origin.ParseRepo("team/app")
		if err != nil {
			t.Fatal(err)
		}
		ctx := origin.WithRequest(t.Context(), &origin.Request{ID: "trace", Principal: c.who})
		if _, err := g.Tags(ctx, repo, origin.Page{}); err == nil {
			t.Error("allowed")
		}
		var entry map[string]any
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			t.Fatalf("%s: %v in %s", c.name, err, &lines)
		}
		for key, want := range map[string]any{
			"msg": "denied", "level": c.level, "identity": c.who.ID, "rule": "authz.policy.deny[0]",
			"action": "pull", "repository": "team/app", "trace_id": "trace",
		} {
			if entry[key] != want {
				t.Errorf("%s: %s is %v, want %v", c.name, key, entry[key], want)
			}
		}
	}
}

// denies is a policy that lets nobody do anything.
type denies struct{}

func (denies) Authorize(context.Context, authz.Identity, authz.Access) error {
	return &authz.Denial{By: "authz.policy.deny[0]"}
}
