package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	// rightsUser may pull by the last of 50 rules; the hash is of rightsPassword.
	rightsUser     = "bench"
	rightsPassword = "correct horse"
	rightsHash     = "$argon2id$v=19$m=19456,t=2,p=1$liMDkQluLOUOgdiIRibZ1Q$/9+2ZQLx/8sivm7FmP4ZUtyRhYG0YlYR1pld4HGjWhQ"
)

func rightsRows() []row {
	return []row{{
		name: "rights", work: "a manifest by tag with a token and 50 rules, 32 connections; and the same by nobody without a rule",
		servers: []string{weir},
		measures: []measure{
			{name: cpu, unit: "µs/req"},
			{name: "CPU beside anonymous", unit: "×", goals: []goal{atMost(1.15)}},
		},
		run: withRights,
	}}
}

func withRights(ctx context.Context, t *trial) (values, error) {
	i, err := t.data.image(0, 64*kB, 4)
	if err != nil {
		return nil, err
	}
	known := way{config: rightsConfig, begin: func(ctx context.Context, t *trial) (string, error) {
		return token(ctx, t.running.addr, "repository:app:pull")
	}}
	c, err := beside(ctx, t, way{config: weirConfig}, known, i, []string{"/v2/app/manifests/v1"}, 32, cost.perRequestOf)
	return values{cpu: c.cost, "CPU beside anonymous": c.cpu}, err
}

// rightsConfig has 50 rules, of which the last lets the user pull, and the first nobody
// fill the store. What is between looks at what rules look at.
func rightsConfig(p place) string {
	rules := []string{"!identity.authenticated"}
	for n := range 48 {
		rules = append(rules, fmt.Sprintf([]string{
			"identity.id == 'basic:team%d' && request.repository.startsWith('team%[1]d/')",
			"'group%d' in identity.groups && request.action in ['pull', 'push']",
			"request.repository.matches('^team%d/[a-z]+$') && identity.oidc.provider == 'corp'",
			"identity.username == 'user%d' && request.action == 'pull' && request.tag != 'latest'",
		}[n%4], n))
	}
	rules = append(rules, "identity.id == 'basic:"+rightsUser+"' && request.action == 'pull'")
	return weirConfig(p) + fmt.Sprintf("authz:\n  basic: {users: [{name: %s, hash: %q}]}\n  policy:\n    allow:\n      - \"%s\"\n",
		rightsUser, rightsHash, strings.Join(rules, "\"\n      - \""))
}

// token fetches one for a scope, as clients do, and gives the header to show it in.
func token(ctx context.Context, addr, scope string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/token?service=weir&scope="+scope, nil)
	if err != nil {
		return "", err
	}
	req.SetBasicAuth(rightsUser, rightsPassword)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var said struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || resp.StatusCode != http.StatusOK || said.Token == "" {
		return "", fmt.Errorf("token: %s, %w", resp.Status, err)
	}
	return "Bearer " + said.Token, nil
}
