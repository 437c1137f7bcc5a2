package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin"
)

// elsewhere is where somebody asks from who is surely not on this machine: an address
// for documentation (RFC 5737).
const elsewhere = "192.0.2.1"

// questionFlags are a question to a policy, as a command line says it.
type questionFlags struct {
	user, ip, action, repository, tag string
	claims                            []string
}

// question is what they mean. Errors: a flag that is missing or means nothing.
func (f questionFlags) question() (authz.Identity, authz.Access, error) {
	who, err := f.who()
	if err != nil {
		return who, authz.Access{}, err
	}
	what, err := f.what()
	return who, what, err
}

func actionNames() []string {
	var names []string
	for _, a := range authz.Actions() {
		names = append(names, string(a))
	}
	return names
}

// what is asked for.
func (f questionFlags) what() (authz.Access, error) {
	a := authz.Access{Action: authz.Action(f.action), Tag: f.tag}
	switch {
	case f.action == "":
		return a, fmt.Errorf("--action is missing: one of %s", strings.Join(actionNames(), ", "))
	case !slices.Contains(authz.Actions(), a.Action):
		return a, fmt.Errorf("--action: %s is none of %s", origin.Quote(f.action), strings.Join(actionNames(), ", "))
	case f.repository == "" && a.Action != authz.List && a.Action != authz.Admin:
		return a, fmt.Errorf("--repository is missing")
	}
	if f.repository != "" {
		repo, err := origin.ParseRepo(f.repository)
		if err != nil {
			return a, fmt.Errorf("--repository: %w", err)
		}
		a.Repository = repo.String()
	}
	if f.tag != "" {
		if _, err := origin.ParseTag(f.tag); err != nil {
			return a, fmt.Errorf("--tag: %w", err)
		}
	}
	switch a.Action {
	case authz.Pull:
		a.Operation = "get-manifest"
	case authz.Push:
		a.Operation = "put-manifest"
	case authz.List:
		a.Operation = "list-catalog"
	case authz.Delete:
		a.Operation = "delete-manifest"
		if f.tag != "" {
			a.Operation = "delete-tag"
		}
	}
	return a, nil
}

// who asks.
func (f questionFlags) who() (authz.Identity, error) {
	who := authz.Identity{Method: authz.MethodNone}
	from, err := netip.ParseAddr(elsewhere)
	if err == nil && f.ip != "" {
		from, err = netip.ParseAddr(f.ip)
	}
	if err != nil {
		return who, fmt.Errorf("--ip: %s is no address", origin.Quote(f.ip))
	}
	from = from.Unmap()
	who.Client = authz.Client{IP: from, Local: from.IsLoopback()}

	claims, err := parseClaims(f.claims)
	if err != nil {
		return who, err
	}
	kind, rest, full := strings.Cut(f.user, ":")
	switch method := authz.Method(kind); {
	case full && method == authz.MethodBasic && claims == nil:
		who.Method, who.ID, who.Username = method, f.user, rest
	case full && method == authz.MethodMTLS && claims == nil:
		_, subject, _ := strings.Cut(rest, ":")
		who.Method, who.ID, who.Username = method, f.user, subject
		who.Certificate = &authz.Certificate{CommonName: subject}
	case full && method == authz.MethodOIDC:
		provider, subject, ok := strings.Cut(rest, ":")
		if !ok || provider == "" || subject == "" {
			return who, fmt.Errorf("--user: %s is no id: write oidc:PROVIDER:SUBJECT", origin.Quote(f.user))
		}
		who = byProvider(who, provider, subject, claims)
	case full && (method == authz.MethodBasic || method == authz.MethodMTLS):
		return who, fmt.Errorf("--claim: %s is nobody of whom a provider says anything", origin.Quote(f.user))
	case full:
		return who, fmt.Errorf("--user: %s is no id: write it as basic:NAME, oidc:PROVIDER:SUBJECT or mtls:ISSUER:SUBJECT", origin.Quote(f.user))
	case claims != nil:
		subject, ok := claims["sub"].(string)
		if !ok {
			subject = f.user
		}
		who = byProvider(who, "", subject, claims)
		if f.user != "" {
			who.Username = f.user
		}
	case f.user != "":
		who.Method, who.ID, who.Username = authz.MethodBasic, "basic:"+f.user, f.user
	}
	return who, nil
}

// byProvider is somebody whom a provider vouches for.
func byProvider(who authz.Identity, provider, subject string, claims map[string]any) authz.Identity {
	if claims == nil {
		claims = map[string]any{}
	}
	if _, ok := claims["sub"]; !ok {
		claims["sub"] = subject
	}
	who.Method, who.ID, who.Username = authz.MethodOIDC, "oidc:"+provider+":"+subject, subject
	who.OIDC = &authz.OIDC{Provider: provider, Subject: subject, Claims: claims}
	return inGroups(who, "groups")
}

// asConfigured is somebody of a provider as its tokens would have them: its claims for
// user names and groups are read.
func asConfigured(who authz.Identity, providers []config.OIDC) authz.Identity {
	if who.OIDC == nil {
		return who
	}
	for _, p := range providers {
		if p.Name != who.OIDC.Provider {
			continue
		}
		if name, ok := who.OIDC.Claims[p.UsernameClaim].(string); ok {
			who.Username = name
		}
		return inGroups(who, p.GroupsClaim)
	}
	return who
}

// inGroups is somebody in the groups that a claim lists.
func inGroups(who authz.Identity, claim string) authz.Identity {
	who.Groups = nil
	switch groups := who.OIDC.Claims[claim].(type) {
	case string:
		who.Groups = []string{groups}
	case []any:
		for _, g := range groups {
			if name, ok := g.(string); ok {
				who.Groups = append(who.Groups, name)
			}
		}
	}
	return who
}

// parseClaims gives claims by name; nil if there are none. What is said twice is a list.
func parseClaims(list []string) (map[string]any, error) {
	var claims map[string]any
	for _, text := range list {
		name, said, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--claim: %s is no claim: write NAME=VALUE", origin.Quote(text))
		}
		var value any = said
		if said == "true" || said == "false" || strings.HasPrefix(said, "[") || strings.HasPrefix(said, "{") {
			if err := json.Unmarshal([]byte(said), &value); err != nil {
				return nil, fmt.Errorf("--claim: %s is no JSON", origin.Quote(text))
			}
		}
		if claims == nil {
			claims = map[string]any{}
		}
		switch before := claims[name].(type) {
		case nil:
			claims[name] = value
		case []any:
			claims[name] = append(before, value)
		default:
			claims[name] = []any{before, value}
		}
	}
	return claims, nil
}
