package oidc

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/weir-registry/weir/authz"
)

// accepts decides whether what a token of the issuer says would count here and now, but
// for its signature, and gives its expiry. Errors: the reason.
//
// It reads the claims by their exact names. A reader that takes "AUD" for "aud" (as
// encoding/json does) could be led by a claim that users may set themselves.
func (p *Provider) accepts(claims map[string]any, now time.Time) (expires time.Time, err error) {
	if aud := claims["aud"]; !has(aud, p.Audience) {
		return expires, fmt.Errorf("for the audience %.200q, not %q", fmt.Sprint(aud), p.Audience)
	}
	exp, there, err := seconds(claims, "exp")
	switch {
	case err != nil:
		return expires, err
	case !there:
		return expires, errors.New("it never expires")
	}
	unix, leeway := float64(now.UnixNano())/1e9, p.Leeway.Seconds()
	if unix >= exp+leeway {
		return expires, errors.New("expired")
	}
	for _, name := range []string{"nbf", "iat"} {
		from, there, err := seconds(claims, name)
		switch {
		case err != nil:
			return expires, err
		case there && unix < from-leeway:
			return expires, fmt.Errorf("not valid yet: its %s is to come", name)
		}
	}
	for _, required := range p.RequiredClaims {
		value := claims[required.Name]
		if value == nil || required.Value != "" && !has(value, required.Value) {
			return expires, fmt.Errorf("without the claim %q as it is required", required.Name)
		}
	}
	// A float64 of seconds may be beyond what a Time holds.
	left := min(exp-unix, day.Seconds())
	return now.Add(time.Duration(left * float64(time.Second))), nil
}

// seconds is a claim of NumericDate (RFC 7519, 2).
func seconds(claims map[string]any, name string) (unix float64, there bool, err error) {
	value, there := claims[name]
	if !there {
		return 0, false, nil
	}
	unix, ok := value.(float64)
	if !ok {
		return 0, true, fmt.Errorf("its %s is no time", name)
	}
	return unix, true, nil
}

// has reports whether a claim is want, or a list with it.
func has(claim any, want string) bool {
	if list, ok := claim.([]any); ok {
		return slices.ContainsFunc(list, func(element any) bool { return is(element, want) })
	}
	return is(claim, want)
}

// is reports whether a single value is want: a text, or what JSON writes.
func is(value any, want string) bool {
	switch v := value.(type) {
	case string:
		return v == want
	case bool, float64:
		text, err := json.Marshal(v)
		return err == nil && string(text) == want
	}
	return false
}

// identity is who a token that was verified is for. Errors: it does not say.
func (p *Provider) identity(claims map[string]any) (authz.Identity, error) {
	subject, err := name(claims, "sub")
	if err != nil {
		return authz.Identity{}, err
	}
	username, err := name(claims, p.UsernameClaim)
	if err != nil {
		return authz.Identity{}, err
	}
	groups, err := p.groups(claims)
	if err != nil {
		return authz.Identity{}, err
	}
	return authz.Identity{
		ID:       "oidc:" + p.Name + ":" + subject,
		Username: username,
		Groups:   groups,
		Method:   authz.MethodOIDC,
		OIDC:     &authz.OIDC{Provider: p.Name, Subject: subject, Claims: claims},
	}, nil
}

// name is a claim that somebody is called by.
func name(claims map[string]any, claim string) (string, error) {
	s, _ := claims[claim].(string)
	if s == "" || !plain(s) {
		return "", fmt.Errorf("its claim %q is no name", claim)
	}
	return s, nil
}

// groups are those of the token: a list of names, or a single one. What is neither is
// refused and not passed over: a rule may deny a group.
func (p *Provider) groups(claims map[string]any) ([]string, error) {
	if p.GroupsClaim == "" {
		return nil, nil
	}
	// A provider leaves out what is too long, and says where it would be had (OpenID
	// Connect Core, 5.6.2; Entra does so beyond 200 groups).
	if elsewhere, ok := claims["_claim_names"].(map[string]any); ok && elsewhere[p.GroupsClaim] != nil {
		return nil, fmt.Errorf("its claim %q is not in it but elsewhere", p.GroupsClaim)
	}
	bad := fmt.Errorf("its claim %q is no list of names", p.GroupsClaim)
	var groups []string
	switch claim := claims[p.GroupsClaim].(type) {
	case nil:
	case string:
		groups = []string{claim}
	case []any:
		for _, element := range claim {
			group, ok := element.(string)
			if !ok {
				return nil, bad
			}
			groups = append(groups, group)
		}
	default:
		return nil, bad
	}
	if slices.ContainsFunc(groups, func(g string) bool { return g == "" || !plain(g) }) {
		return nil, bad
	}
	return groups, nil
}

// plain reports whether s can be told from every other name, and printed: it has no
// control characters, and none that stands for what was not Unicode.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) })
}
